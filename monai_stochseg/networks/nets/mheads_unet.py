# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from monai_stochseg.distributions import HypothesesDistribution
from monai_stochseg.distributions.arguments import check_arguments, check_at_least, check_num_classes
from monai_stochseg.distributions.images import check_features, check_image_axes, resolve_spatial_dims
from monai_stochseg.networks.blocks import pointwise_head
from monai_stochseg.networks.nets.bilinear_unet import BilinearUNet, init_orthogonal


class MHeads(nn.Module):
    """
    M heads on one backbone, each of which answers with a hypothesis of its own (Rupprecht et al. 2017,
    https://arxiv.org/abs/1612.00197); a sample is one head's answer.

    A head is three 1x1 convolutions with ReLU between them, as in the Probabilistic U-Net.

    Args:
        backbone: any module that maps images ``[B, C_in, *S]`` to features ``[B, feature_channels, *S]``.
        feature_channels: number of channels of the backbone's output.
        out_channels: number of classes C, the background included.
        num_heads: number of heads M.
        spatial_dims: 2 or 3. Default: that of the backbone's convolutions.

    Raises:
        ValueError: for num_heads below 1, fewer than 2 classes, or other spatial_dims.
    """

    @check_arguments
    def __init__(
        self,
        backbone: nn.Module,
        feature_channels: int,
        out_channels: int,
        num_heads: int = 16,
        spatial_dims: int | None = None,
    ) -> None:
        super().__init__()
        check_at_least(1, num_heads=num_heads, feature_channels=feature_channels)
        check_num_classes(out_channels=out_channels)
        self.spatial_dims = resolve_spatial_dims(spatial_dims, backbone, "backbone")
        self.backbone = backbone
        self.feature_channels = feature_channels
        self.heads = nn.ModuleList(
            pointwise_head(self.spatial_dims, feature_channels, out_channels) for _ in range(num_heads)
        )
        self.heads.apply(init_orthogonal)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """
        Args:
            x: image ``[B, C_in, *S]``.

        Returns:
            the logits of all heads, ``[B, M, C, *S]``.
        """
        check_image_axes(x, self.spatial_dims)
        features = self.backbone(x)
        check_features(features, x, self.feature_channels, "backbone")
        return torch.stack([head(features) for head in self.heads], dim=1)

    def predictive(self, x: torch.Tensor) -> HypothesesDistribution:
        """The heads as a distribution, of an image ``[B, C_in, *S]``: see :py:class:`HypothesesDistribution`."""
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
        align_corners: see :py:class:`BilinearUNet`.

    Raises:
        ValueError: for num_heads below 1, fewer than 2 classes, other spatial_dims, or numbers of channels that are not
            positive.
    """

    @check_arguments
    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        channels: Sequence[int] = (32, 64, 128, 256, 512),
        num_heads: int = 16,
        norm: str | tuple | None = None,
        align_corners: bool = False,
    ) -> None:
        backbone = BilinearUNet(spatial_dims, in_channels, None, channels, norm, align_corners=align_corners)
        super().__init__(backbone, channels[0], out_channels, num_heads, spatial_dims)
