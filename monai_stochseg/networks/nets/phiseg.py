# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.layers.factories import Conv
from monai.utils import InterpolateMode
from torch import nn
from torch.nn import functional as F

from monai_stochseg.distributions import Gaussian, full_precision
from monai_stochseg.distributions.ancestral import Choose
from monai_stochseg.distributions.arguments import check_arguments, check_at_least, check_num_classes
from monai_stochseg.networks.blocks.latent_head import LatentHead
from monai_stochseg.networks.blocks.latent_hierarchy import LatentHierarchy, Walk
from monai_stochseg.networks.nets.bilinear_unet import BilinearEncoder, conv_block, init_orthogonal

_CONVS = 2  # of a block behind a latent, and of one that joins two levels


class PHiSeg(LatentHierarchy):
    """
    PHiSeg (Baumgartner et al. 2019, https://arxiv.org/abs/1906.04045): a hierarchy of latents, one for each of several
    resolutions, each with a place for each voxel of its grid. The default is the paper's network on LIDC, with 7
    resolutions and 5 latent levels.

    A level's latent is normal, given the image and the latent of the coarser level. In training it is drawn from a
    posterior that sees a rater's label too, as one-hot minus 0.5. The decoder reads the latents alone, and not the
    image: each level adds its logits to those of the coarser levels, and each of these sums is to fit the label. The
    first level is the coarsest.

    The levels' divergences are weighted by the volume of a voxel of their grid: give
    :py:class:`monai_stochseg.losses.ELBOLoss` the :py:meth:`level_weights`.

    Args:
        spatial_dims: 2 or 3.
        in_channels: number of channels of the image.
        out_channels: number of classes C, the background included.
        channels: number of channels of each resolution.
        latent_levels: number of levels with a latent; that of the finest has ``2 ** (len(channels) - latent_levels)``
            times the image's voxel size.
        latent_dim: number of channels L of each latent.
        norm: normalisation, by MONAI's name and options. Default: batch norm, as in the paper.

    Raises:
        ValueError: for fewer than 2 classes, other spatial_dims, numbers of channels that are not positive, or
            latent_levels that are not between 1 and the number of resolutions.

    Example::

        net = PHiSeg(spatial_dims=2, in_channels=1, out_channels=2)
        loss = ELBOLoss(level_weights=net.level_weights())(net(image, label), label)  # label [B, raters, *S]
        samples = net.predictive(image).sample_logits(16).argmax(2)  # [B, 16, *S]
    """

    @check_arguments
    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        channels: Sequence[int] = (32, 64, 128, 192, 192, 192, 192),
        latent_levels: int = 5,
        latent_dim: int = 2,
        norm: str | tuple | None = "BATCH",
    ) -> None:
        super().__init__(spatial_dims, out_channels)
        check_num_classes(out_channels=out_channels)
        check_at_least(1, in_channels=in_channels, latent_dim=latent_dim)
        if not 1 <= latent_levels <= len(channels):
            raise ValueError(
                f"latent_levels must lie between 1 and the {len(channels)} resolutions of channels, "
                f"got {latent_levels}."
            )
        self.latent_levels = latent_levels
        self.prior_net = _Hierarchy(spatial_dims, in_channels, channels, latent_levels, latent_dim, norm)
        self.posterior_net = _Hierarchy(
            spatial_dims, in_channels + out_channels, channels, latent_levels, latent_dim, norm
        )
        self.likelihood = _Likelihood(spatial_dims, out_channels, channels, latent_levels, latent_dim, norm)

    def level_weights(self) -> list[float]:
        """
        Weights of the levels' divergences, those of the paper's code: the volume of a voxel of the level's grid over
        that of the finest, in 2D 256, 64, 16, 4 and 1.
        """
        return [2.0 ** (self.spatial_dims * level) for level in reversed(range(self.latent_levels))]

    def decode(self, features: Sequence[torch.Tensor], walk: Walk) -> list[torch.Tensor]:
        """Logits ``[B, C, *S]`` of the first level, of the first two, ..., and of all."""
        logits: list[torch.Tensor] = self.likelihood(walk.latents, [f.shape[2:] for f in features])
        return logits


class _Hierarchy(nn.Module):
    """The normals of all levels, from the coarsest to the finest, and the latents that ``choose`` takes from them."""

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        channels: Sequence[int],
        latent_levels: int,
        latent_dim: int,
        norm: str | tuple | None,
    ) -> None:
        super().__init__()
        self.encoder = BilinearEncoder(spatial_dims, in_channels, channels, norm)
        finest = len(channels) - latent_levels
        coarser = latent_dim * channels[0]  # the width behind a latent that came from the level below
        self.raises = nn.ModuleList(
            conv_block(spatial_dims, latent_dim, coarser, norm, _CONVS) for _ in range(latent_levels - 1)
        )
        self.joins = nn.ModuleList(
            conv_block(spatial_dims, channels[finest + level] + coarser, channels[level], norm, _CONVS)
            for level in reversed(range(latent_levels - 1))
        )
        widths = [channels[-1], *(channels[level] for level in reversed(range(latent_levels - 1)))]
        self.heads = nn.ModuleList(LatentHead(spatial_dims, width, latent_dim) for width in widths)
        for part in (self.raises, self.joins, self.heads):
            part.apply(init_orthogonal)

    def forward(self, features: Sequence[torch.Tensor], choose: Choose) -> Walk:
        normals: list[Gaussian] = []
        latents: list[torch.Tensor] = []
        for level, head in enumerate(self.heads):
            own = features[-1 - level]
            if level > 0:
                coarser = self.raises[level - 1](_resize(latents[-1], own.shape[2:]))
                own = self.joins[level - 1](torch.cat([own, coarser], dim=1))
            normals.append(head(own))
            latents.append(choose(level, normals[-1]))
        return Walk(normals, latents)


class _Likelihood(nn.Module):
    """
    Latents, from the coarsest to the finest, to the logits of each level added to those of the coarser ones,
    ``[B, C, *S]`` each; the last are those of all levels.
    """

    def __init__(
        self,
        spatial_dims: int,
        out_channels: int,
        channels: Sequence[int],
        latent_levels: int,
        latent_dim: int,
        norm: str | tuple | None,
    ) -> None:
        super().__init__()
        self.finest = finest = len(channels) - latent_levels
        levels = list(reversed(range(latent_levels)))
        self.reads = nn.ModuleList(
            conv_block(spatial_dims, latent_dim, channels[level], norm, _CONVS) for level in levels
        )
        self.refines = nn.ModuleList(
            conv_block(spatial_dims, channels[level], channels[level], norm, 1)
            for level in levels
            for _ in range(finest)
        )
        widths = [channels[levels[0]], *(channels[level + finest] for level in levels[1:])]
        self.raises = nn.ModuleList(
            conv_block(spatial_dims, below, channels[level], norm, 1)
            for below, level in zip(widths, levels[1:], strict=False)
        )
        self.joins = nn.ModuleList(
            conv_block(spatial_dims, 2 * channels[level], channels[level + finest], norm, _CONVS)
            for level in levels[1:]
        )
        conv = Conv[Conv.CONV, spatial_dims]
        self.heads = nn.ModuleList(conv(width, out_channels, kernel_size=1) for width in widths)
        self.apply(init_orthogonal)

    def forward(self, latents: Sequence[torch.Tensor], sizes: Sequence[torch.Size]) -> list[torch.Tensor]:
        total: list[torch.Tensor] = []
        joined: torch.Tensor | None = None
        for i, latent in enumerate(latents):
            resolution = len(latents) - 1 - i  # of this level's output; that of its latent is coarser by `finest`
            own = self.reads[i](latent)
            for step in range(self.finest):
                size = sizes[resolution + self.finest - 1 - step]
                own = self.refines[i * self.finest + step](_resize(own, size))
            if joined is not None:
                raised = self.raises[i - 1](_resize(joined, own.shape[2:]))
                own = self.joins[i - 1](torch.cat([own, raised], dim=1))
            joined = own
            with torch.autocast(own.device.type, enabled=False):
                logits = F.interpolate(self.heads[i](full_precision(own)), size=sizes[0], mode="nearest")
            total.append(logits if not total else total[-1] + logits)
        return total


def _resize(x: torch.Tensor, size: torch.Size) -> torch.Tensor:
    mode = InterpolateMode.BILINEAR if x.dim() == 4 else InterpolateMode.TRILINEAR
    return F.interpolate(x, size=size, mode=mode.value, align_corners=False)
