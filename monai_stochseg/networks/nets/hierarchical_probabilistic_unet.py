# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.layers.factories import Conv
from torch import nn
from torch.nn import functional as F

from monai_stochseg.distributions import Gaussian, full_precision
from monai_stochseg.distributions.ancestral import Choose
from monai_stochseg.distributions.arguments import (
    check_arguments,
    check_at_least,
    check_num_classes,
    check_spatial_dims,
)
from monai_stochseg.networks.blocks.latent_head import LatentHead
from monai_stochseg.networks.blocks.latent_hierarchy import LatentHierarchy, Walk
from monai_stochseg.networks.nets.bilinear_unet import halve, init_orthogonal

_CONVS_PER_BLOCK = 3


class HierarchicalProbabilisticUNet(LatentHierarchy):
    """
    Hierarchical Probabilistic U-Net (Kohl et al. 2019, https://arxiv.org/abs/1905.13077): a U-Net of residual blocks
    whose decoder draws a latent, with a place for each voxel, at each of its coarsest resolutions, and goes on with it.
    The default is the network of the authors' code for LIDC, with 8 resolutions and 4 latents of one channel.

    Each latent is normal, given the image and the coarser latents. In training it is drawn from a posterior, a second
    such network that sees a rater's label too, as one-hot minus 0.5.

    Args:
        spatial_dims: 2 or 3.
        in_channels: number of channels of the image.
        out_channels: number of classes C, the background included.
        channels: number of channels of each resolution; within a residual block there are half as many.
        latent_dims: number of channels of the latent of each level, from the coarsest; fewer levels than resolutions.
        blocks_per_level: number of residual blocks of a resolution, in encoder and decoder.

    Raises:
        ValueError: for fewer than 2 classes, other spatial_dims, numbers that are not positive, or as many levels as
            resolutions.

    Example::

        net = HierarchicalProbabilisticUNet(spatial_dims=2, in_channels=1, out_channels=2)
        loss = ELBOLoss(target_reconstruction=0.05, target_per_voxel=True, top_k=0.02)
        value = loss(net(image, label), label)  # label [B, raters, *S]
        samples = net.predictive(image).sample_logits(16).argmax(2)  # [B, 16, *S]
    """

    @check_arguments
    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        channels: Sequence[int] = (24, 48, 96, 192, 192, 192, 192, 192),
        latent_dims: Sequence[int] = (1, 1, 1, 1),
        blocks_per_level: int = 3,
    ) -> None:
        super().__init__(spatial_dims, out_channels)
        check_spatial_dims(spatial_dims)
        check_num_classes(out_channels=out_channels)
        check_at_least(1, in_channels=in_channels, blocks_per_level=blocks_per_level)
        if len(channels) == 0 or min(channels) < 1:
            raise ValueError(f"channels must be one or more positive integers, got {tuple(channels)}.")
        if not 1 <= len(latent_dims) < len(channels) or min(latent_dims) < 1:
            raise ValueError(
                f"latent_dims must be positive, and one to {len(channels) - 1} for {len(channels)} resolutions of "
                f"channels, got {tuple(latent_dims)}."
            )
        self.prior_net = _Core(spatial_dims, in_channels, channels, latent_dims, blocks_per_level)
        self.posterior_net = _Core(spatial_dims, in_channels + out_channels, channels, latent_dims, blocks_per_level)
        rest = len(channels) - 1 - len(latent_dims)
        self.blocks = nn.ModuleList(
            _level(spatial_dims, channels[level + 1] + channels[level], channels[level], blocks_per_level)
            for level in reversed(range(rest))
        )
        self.final = Conv[Conv.CONV, spatial_dims](channels[0], out_channels, kernel_size=1)
        for part in (self.blocks, self.final):
            part.apply(init_orthogonal)

    def decode(self, features: Sequence[torch.Tensor], walk: Walk) -> list[torch.Tensor]:
        """Logits ``[B, C, *S]``, of all levels."""
        y: torch.Tensor = walk.decoded
        for level, block in zip(reversed(range(len(self.blocks))), self.blocks, strict=True):
            y = block(_join(y, features[level]))
        with torch.autocast(y.device.type, enabled=False):
            return [self.final(full_precision(y))]


class _Core(nn.Module):
    """A U-Net whose decoder ends one resolution above the finest latent."""

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        channels: Sequence[int],
        latent_dims: Sequence[int],
        blocks_per_level: int,
    ) -> None:
        super().__init__()
        self.encoder = _Encoder(spatial_dims, in_channels, channels, blocks_per_level)
        coarsest = len(channels) - 1
        levels = [coarsest - i for i in range(len(latent_dims))]
        self.heads = nn.ModuleList(
            LatentHead(spatial_dims, channels[level], dim) for level, dim in zip(levels, latent_dims, strict=True)
        )
        self.blocks = nn.ModuleList(
            _level(spatial_dims, dim + channels[level] + channels[level - 1], channels[level - 1], blocks_per_level)
            for level, dim in zip(levels, latent_dims, strict=True)
        )
        self.apply(init_orthogonal)

    def forward(self, features: Sequence[torch.Tensor], choose: Choose) -> Walk:
        normals: list[Gaussian] = []
        latents: list[torch.Tensor] = []
        y = features[-1]
        for level, (head, block) in enumerate(zip(self.heads, self.blocks, strict=True)):
            normals.append(head(y))
            latents.append(choose(level, normals[-1]))
            y = block(_join(torch.cat([latents[-1].to(y.dtype), y], dim=1), features[-2 - level]))
        return Walk(normals, latents, y)


class _Encoder(nn.Module):
    """The features of each resolution, from the whole size to the smallest."""

    def __init__(self, spatial_dims: int, in_channels: int, channels: Sequence[int], blocks_per_level: int) -> None:
        super().__init__()
        self.levels = nn.ModuleList(
            _level(spatial_dims, before, after, blocks_per_level)
            for before, after in zip([in_channels, *channels], channels, strict=False)
        )

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        features: list[torch.Tensor] = []
        for level in self.levels:
            x = level(halve(x) if features else x)
            features.append(x)
        return features


class _ResidualBlock(nn.Module):
    """Convolutions of half the channels behind a ReLU each, added to their input."""

    def __init__(self, spatial_dims: int, in_channels: int, out_channels: int) -> None:
        super().__init__()
        conv = Conv[Conv.CONV, spatial_dims]
        inner = max(1, out_channels // 2)
        layers: list[nn.Module] = []
        for i in range(_CONVS_PER_BLOCK):
            layers += [nn.ReLU(), conv(inner if i else in_channels, inner, kernel_size=3, padding=1)]
        self.residual = nn.Sequential(*layers, conv(inner, out_channels, kernel_size=1))
        same = in_channels == out_channels
        self.skip = nn.Identity() if same else conv(in_channels, out_channels, kernel_size=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.skip(x) + self.residual(x)
        return result


def _level(spatial_dims: int, in_channels: int, out_channels: int, blocks: int) -> nn.Sequential:
    widths = [in_channels, *[out_channels] * blocks]
    return nn.Sequential(*(_ResidualBlock(spatial_dims, widths[i], out_channels) for i in range(blocks)))


def _join(x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
    """The channels of ``x``, repeated to the skip's size, and those of the skip."""
    return torch.cat([F.interpolate(x, size=skip.shape[2:], mode="nearest"), skip], dim=1)
