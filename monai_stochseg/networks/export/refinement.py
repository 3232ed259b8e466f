# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import torch

from monai_stochseg.distributions.arguments import check_arguments
from monai_stochseg.networks.export.base import SampleExport
from monai_stochseg.networks.nets.calibrated_adversarial_refinement import CalibratedAdversarialRefinement

__all__ = ["RefinementExport"]


class RefinementExport(SampleExport):
    """
    Calibrated Adversarial Refinement as a function of image and noise: the code is ``mean + sigma * noise``, L numbers
    a sample; mean 0 and sigma 1 without a probabilistic encoder.

    Args:
        network: the network.
    """

    network: CalibratedAdversarialRefinement

    @check_arguments
    def __init__(self, network: CalibratedAdversarialRefinement) -> None:
        super().__init__(network, fixed=network.refinement.latent_dim)

    def sample_logits(self, image: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """See :py:meth:`SampleExport.sample_logits`."""
        refinement = self.network.refinement
        features = refinement.encode(image, self.network.calibration_logits(image).softmax(1))
        mean, log_std = refinement.latent(features)
        return refinement.decode(features, mean.unsqueeze(1) + log_std.exp().unsqueeze(1) * noise)
