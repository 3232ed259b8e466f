# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import torch

from monai_stochseg.distributions.arguments import check_arguments
from monai_stochseg.networks.export.base import SampleExport
from monai_stochseg.networks.nets.probabilistic_unet import ProbabilisticUNet

__all__ = ["LatentExport"]


class LatentExport(SampleExport):
    """
    A Probabilistic U-Net, or an Image2Image VAE, as a function of image and noise: the latent is
    ``mean + sigma * noise`` of the prior, L numbers a sample. The core runs once an image; with the latent at its input
    once a sample.

    Args:
        network: the network.
    """

    network: ProbabilisticUNet

    @check_arguments
    def __init__(self, network: ProbabilisticUNet) -> None:
        super().__init__(network, fixed=network.latent_dim)

    def sample_logits(self, image: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """See :py:meth:`SampleExport.sample_logits`."""
        mean, log_std = self.network.prior(image)
        latents = mean.unsqueeze(1) + log_std.exp().unsqueeze(1) * noise
        return self.network.decode(image, latents)
