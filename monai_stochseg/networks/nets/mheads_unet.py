# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from monai_stochseg.distributions import HypothesesDistribution
from monai_stochseg.networks.blocks import pointwise_head
from monai_stochseg.networks.nets.bilinear_unet import BilinearUNet, init_orthogonal


class MHeads(nn.Module):
    """
    M heads on one backbone, each of which answers with a hypothesis of its own (Rupprecht et al. 2017,
    https://arxiv.org/abs/1612.00197); a sample is one head's answer.

    A head is three 1x1 convolutions with ReLU between them, as those that read the Probabilistic U-Net's latent.

    Args:
        backbone: any module that maps images ``[B, C_in, *S]`` to features ``[B, feature_channels, *S]``.
        feature_channels: number of channels of the backbone's output.
        out_channels: number of classes C, the background included.
        num_heads: number of heads M.
        spatial_dims: 2 or 3.

    Raises:
        ValueError: for num_heads below 1, fewer than 2 classes, or other spatial_dims.
    """

    def __init__(
        self,
        backbone: nn.Module,
        feature_channels: int,
        out_channels: int,
        num_heads: int = 16,
        spatial_dims: int = 3,
    ) -> None:
        super().__init__()
        if num_heads < 1:
            raise ValueError(f"num_heads must be at least 1, got {num_heads}.")
        if out_channels < 2:
            raise ValueError(f"out_channels counts the background and must be at least 2, got {out_channels}.")
        if spatial_dims not in (2, 3):
            raise ValueError(f"spatial_dims must be 2 or 3, got {spatial_dims}.")
        self.backbone = backbone
        self.feature_channels = feature_channels
        self.heads = nn.ModuleList(
            pointwise_head(spatial_dims, feature_channels, out_channels) for _ in range(num_heads)
        )
        self.heads.apply(init_orthogonal)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """
        Args:
            x: image ``[B, C_in, *S]``.

        Returns:
            the logits of all heads, ``[B, M, C, *S]``.
        """
        features = self.backbone(x)
        if features.shape[1] != self.feature_channels:
            raise ValueError(
                f"the backbone gave {features.shape[1]} channels, feature_channels={self.feature_channels}."
            )
        return torch.stack([head(features) for head in self.heads], dim=1)

    def predictive(self, x: torch.Tensor) -> HypothesesDistribution:
        """The predictive distribution of an image ``[B, C_in, *S]``: any head, with equal probability."""
        return HypothesesDistribution(self(x))


class MHeadsUNet(MHeads):
    """
    U-Net of M heads, a baseline of the Probabilistic U-Net's paper (Kohl et al. 2018, https://arxiv.org/abs/1806.05034):
    the heads of :py:class:`MHeads` branch off after the last features of the paper's U-Net.

    Args:
        spatial_dims: 2 or 3.
        in_channels: number of channels of the image.
        out_channels: number of classes C, the background included.
        channels: number of channels of each level.
        num_heads: number of heads M.
        norm: normalisation in the U-Net, by MONAI's name and options. Default: none.

    Raises:
        ValueError: for num_heads below 1, fewer than 2 classes, other spatial_dims, or numbers of channels that are not
            positive.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        channels: Sequence[int] = (32, 64, 128, 192),
        num_heads: int = 16,
        norm: str | tuple | None = None,
    ) -> None:
        backbone = BilinearUNet(spatial_dims, in_channels, None, channels, norm)
        super().__init__(backbone, channels[0], out_channels, num_heads, spatial_dims)
