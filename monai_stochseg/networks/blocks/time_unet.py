# SPDX-License-Identifier: Apache-2.0
"""A light U-Net with a time, the vector field of a flow."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from monai.networks.layers.factories import Conv
from monai.networks.nets.diffusion_model_unet import DiffusionUNetResnetBlock, get_timestep_embedding
from torch import nn
from torch.nn import functional as F

from monai_stochseg.distributions.arguments import check_spatial_dims
from monai_stochseg.networks.nets.bilinear_unet import halve

__all__ = ["TimeUNet"]

_TIME_SCALE = 1000.0  # of a time in [0, 1], to the steps that the sinusoids are made for
_GROUPS = 8


class TimeUNet(nn.Module):
    """
    A U-Net of MONAI's residual blocks with a time, one for each resolution of encoder and decoder; images of any size.

    Args:
        spatial_dims: 2 or 3.
        in_channels: number of channels of the input, and of the output.
        channels: number of channels of each resolution.
    """

    def __init__(self, spatial_dims: int, in_channels: int, channels: Sequence[int]) -> None:
        super().__init__()
        check_spatial_dims(spatial_dims)
        self.width = channels[0]
        embedding = 4 * channels[0]
        self.time = nn.Sequential(nn.Linear(self.width, embedding), nn.SiLU(), nn.Linear(embedding, embedding))
        conv = Conv[Conv.CONV, spatial_dims]
        self.first = conv(in_channels, channels[0], kernel_size=3, padding=1)

        def block(before: int, after: int) -> DiffusionUNetResnetBlock:
            groups = math.gcd(math.gcd(before, after), _GROUPS)
            return DiffusionUNetResnetBlock(spatial_dims, before, embedding, after, norm_num_groups=groups)

        self.encoder = nn.ModuleList(
            block(before, after) for before, after in zip([channels[0], *channels], channels, strict=False)
        )
        self.decoder = nn.ModuleList(
            block(channels[level] + channels[level - 1], channels[level - 1])
            for level in range(len(channels) - 1, 0, -1)
        )
        self.last = nn.Sequential(
            nn.GroupNorm(math.gcd(channels[0], _GROUPS), channels[0]),
            nn.SiLU(),
            conv(channels[0], in_channels, kernel_size=3, padding=1),
        )

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """
        Args:
            x: ``[B, in_channels, *S]``.
            t: times in [0, 1], ``[B]``.

        Returns:
            ``[B, in_channels, *S]``.
        """
        embedding = self.time(get_timestep_embedding(_TIME_SCALE * t, self.width).to(x.dtype))
        y = self.first(x)
        features: list[torch.Tensor] = []
        for block in self.encoder:
            y = block(halve(y) if features else y, embedding)
            features.append(y)
        for level, block in enumerate(self.decoder):
            skip = features[-2 - level]
            y = block(torch.cat([F.interpolate(y, size=skip.shape[2:], mode="nearest"), skip], dim=1), embedding)
        result: torch.Tensor = self.last(y)
        return result
