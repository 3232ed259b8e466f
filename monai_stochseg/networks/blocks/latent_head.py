# SPDX-License-Identifier: Apache-2.0
"""Normals of a latent from features, with deviations that stay within bounds."""

from __future__ import annotations

import torch
from monai.networks.layers.factories import Conv
from torch import nn

from monai_stochseg.distributions import Gaussian, full_precision

__all__ = ["LOG_STD_BOUND", "LatentHead", "bounded_log_std"]

# Deviations of exp(-5) to exp(5): their ratio's square, in the divergence, stays far from float32's limits.
LOG_STD_BOUND = 5.0


def bounded_log_std(raw: torch.Tensor) -> torch.Tensor:
    """Log-deviations within [-5, 5], smoothly."""
    return LOG_STD_BOUND * torch.tanh(raw / LOG_STD_BOUND)


class LatentHead(nn.Module):
    """
    Features ``[B, F, *S']`` to the mean and log-deviation of a latent with a place for each voxel, ``[B, L, *S']``, by
    a 1x1 convolution in float32 under autocast too.

    Args:
        spatial_dims: 2 or 3.
        in_channels: number of channels F.
        latent_dim: number of channels L of the latent.
    """

    def __init__(self, spatial_dims: int, in_channels: int, latent_dim: int) -> None:
        super().__init__()
        self.conv = Conv[Conv.CONV, spatial_dims](in_channels, 2 * latent_dim, kernel_size=1)

    def forward(self, features: torch.Tensor) -> Gaussian:
        """Mean and log-deviation, each ``[B, L, *S']``."""
        with torch.autocast(features.device.type, enabled=False):
            mean, raw = self.conv(full_precision(features)).chunk(2, dim=1)
            return Gaussian(mean, bounded_log_std(raw))
