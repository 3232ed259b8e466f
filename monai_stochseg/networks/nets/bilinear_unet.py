# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.layers.factories import Conv, Pool
from monai.utils import InterpolateMode
from torch import nn

# (Kohl et al. 2018, https://arxiv.org/abs/1806.05034, appendix)
_CONVS_PER_BLOCK = 3
_BIAS_STD = 1e-3


class BilinearEncoder(nn.Module):
    """
    Contracting half of a U-Net: at each level three 3x3 convolutions with ReLU, between levels half the size, as the
    Probabilistic U-Net's core, prior and posterior have it (Kohl et al. 2018, https://arxiv.org/abs/1806.05034).

    Bilinear interpolation to half the size is the mean of two voxels along each axis; the last of an odd number stands
    alone. Weights start orthogonal, biases truncated normal.

    Args:
        spatial_dims: 2 or 3.
        in_channels: number of channels of the image.
        channels: number of channels of each level.

    Raises:
        ValueError: for other spatial_dims, or channels that are not positive.
    """

    def __init__(self, spatial_dims: int, in_channels: int, channels: Sequence[int] = (32, 64, 128, 192)) -> None:
        super().__init__()
        if spatial_dims not in (2, 3):
            raise ValueError(f"spatial_dims must be 2 or 3, got {spatial_dims}.")
        if in_channels < 1:
            raise ValueError(f"in_channels must be at least 1, got {in_channels}.")
        if len(channels) == 0 or min(channels) < 1:
            raise ValueError(f"channels must be one or more positive integers, got {tuple(channels)}.")
        widths = [in_channels, *channels]
        self.down = Pool[Pool.AVG, spatial_dims](kernel_size=2, ceil_mode=True)
        self.blocks = nn.ModuleList(
            _block(spatial_dims, before, after) for before, after in zip(widths, channels, strict=False)
        )
        self.apply(init_orthogonal)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """
        Args:
            x: image ``[B, in_channels, *S]``.

        Returns:
            the features of each level, from the whole size to the smallest.
        """
        features: list[torch.Tensor] = []
        for block in self.blocks:
            x = block(self.down(x) if features else x)
            features.append(x)
        return features


class BilinearUNet(nn.Module):
    """
    U-Net with bilinear resampling, the core of the Probabilistic U-Net and of its baselines (Kohl et al. 2018,
    https://arxiv.org/abs/1806.05034). It takes images of any size.

    Args:
        spatial_dims: 2 or 3.
        in_channels: number of channels of the image.
        out_channels: number of channels of a last 1x1 convolution. None returns the features that it would read,
            ``channels[0]`` of them.
        channels: number of channels of each level.

    Raises:
        ValueError: for other spatial_dims, or numbers of channels that are not positive.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int | None,
        channels: Sequence[int] = (32, 64, 128, 192),
    ) -> None:
        super().__init__()
        if out_channels is not None and out_channels < 1:
            raise ValueError(f"out_channels must be at least 1, got {out_channels}.")
        self.encoder = BilinearEncoder(spatial_dims, in_channels, channels)
        self.mode = InterpolateMode.BILINEAR.value if spatial_dims == 2 else InterpolateMode.TRILINEAR.value
        self.blocks = nn.ModuleList(
            _block(spatial_dims, channels[level] + channels[level - 1], channels[level - 1])
            for level in range(len(channels) - 1, 0, -1)
        )
        conv = Conv[Conv.CONV, spatial_dims]
        self.final = nn.Identity() if out_channels is None else conv(channels[0], out_channels, kernel_size=1)
        self.blocks.apply(init_orthogonal)
        self.final.apply(init_orthogonal)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """
        Args:
            x: image ``[B, in_channels, *S]``.

        Returns:
            ``[B, out_channels, *S]``, or the features ``[B, channels[0], *S]``.
        """
        *skips, y = self.encoder(x)
        for block, skip in zip(self.blocks, reversed(skips), strict=True):
            y = nn.functional.interpolate(y, size=skip.shape[2:], mode=self.mode, align_corners=False)
            y = block(torch.cat([skip, y], dim=1))
        result: torch.Tensor = self.final(y)
        return result


def init_orthogonal(module: nn.Module) -> None:
    """Orthogonal weights and small truncated-normal biases, for ``module.apply``."""
    if isinstance(module, (nn.Conv2d, nn.Conv3d, nn.Linear)):
        nn.init.orthogonal_(module.weight)
        if module.bias is not None:
            nn.init.trunc_normal_(module.bias, std=_BIAS_STD, a=-2 * _BIAS_STD, b=2 * _BIAS_STD)


def _block(spatial_dims: int, in_channels: int, out_channels: int) -> nn.Sequential:
    conv = Conv[Conv.CONV, spatial_dims]
    layers: list[nn.Module] = []
    for i in range(_CONVS_PER_BLOCK):
        layers += [conv(out_channels if i else in_channels, out_channels, kernel_size=3, padding=1), nn.ReLU()]
    return nn.Sequential(*layers)
