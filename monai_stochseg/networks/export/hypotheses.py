# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import torch

from monai_stochseg.distributions.arguments import check_arguments
from monai_stochseg.networks.export.base import SampleExport
from monai_stochseg.networks.nets.ensemble import Ensemble
from monai_stochseg.networks.nets.mheads_unet import MHeads

__all__ = ["HypothesesExport"]


class HypothesesExport(SampleExport):
    """
    M heads or the M members of an ensemble as a function of image and noise, drawn without replacement: the noise of
    the first sample, of sample M, of sample 2 M and so on orders the hypotheses of the M samples from there on. The
    noise of the others is not looked at.

    Args:
        network: gives the logits of all hypotheses, ``[B, M, C, *S]``.
    """

    network: MHeads | Ensemble

    @check_arguments
    def __init__(self, network: MHeads | Ensemble) -> None:
        number = len(network.heads if isinstance(network, MHeads) else network.members)
        super().__init__(network, fixed=number)
        self.num_hypotheses = number

    def sample_logits(self, image: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """See :py:meth:`SampleExport.sample_logits`."""
        logits = self.network(image)
        number = torch.arange(noise.shape[1], device=noise.device)
        place = number % self.num_hypotheses
        order = noise.argsort(2)[:, number - place, place]  # [B, N]
        index = order.reshape(*order.shape, *[1] * (logits.dim() - 2))
        return logits.gather(1, index.expand(-1, -1, *logits.shape[2:]))
