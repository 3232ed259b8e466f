# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import torch

from monai_stochseg.distributions.arguments import check_arguments
from monai_stochseg.networks.export.base import SampleExport, standard_uniform
from monai_stochseg.networks.nets.mixture_of_stochastic_experts import MixtureOfStochasticExperts

__all__ = ["ExpertMixtureExport"]


class ExpertMixtureExport(SampleExport):
    """
    A Mixture of Stochastic Experts as a function of image and noise, in the standard representation whatever the
    network's: samples weigh the same, and each draws its expert from the gate.

    The first number of a sample's noise chooses the expert, the other L are those of its latent. Where the distribution
    function of the first passes the gate's cumulative probability, the experts change.

    Args:
        network: the network.
    """

    network: MixtureOfStochasticExperts

    @check_arguments
    def __init__(self, network: MixtureOfStochasticExperts) -> None:
        super().__init__(network, fixed=1 + network.prior_mean.shape[1])

    def sample_logits(self, image: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """See :py:meth:`SampleExport.sample_logits`."""
        gate, dense = self.network.gate_and_features(image)
        # the last sum is 1: it is left out, for rounding may put it below a uniform number
        passed = standard_uniform(noise[:, :, :1]) >= gate.cumsum(1)[:, :-1].unsqueeze(1)
        expert = passed.sum(2)
        std = self.network.prior_log_std().exp()[expert].unsqueeze(2)
        return self.network.decode(dense, self.network.prior_mean[expert] + std * noise[:, :, 1:])
