# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from monai.networks.blocks import Convolution
from monai.networks.layers.factories import Conv
from torch import nn
from torch.nn import functional as F

from monai_stochseg.distributions.arguments import check_arguments
from monai_stochseg.distributions.images import check_image_axes
from monai_stochseg.networks.blocks.checks import check_min_size, check_options

_NEGATIVE_SLOPE = 0.2
_BLACK_BOX_BLOCKS = 5


class CalibrationNetwork(nn.Module):
    """
    SegNet (Badrinarayanan et al. 2017, https://arxiv.org/abs/1511.00561), the calibration network of Calibrated
    Adversarial Refinement (Kassapis et al. 2021, https://arxiv.org/abs/2006.13144): trained by cross entropy, its
    softmax is how often raters give each class.

    A level has 3x3 convolutions with batch norm, ReLU and dropout. On the way down the maximum of 2 voxels along each
    axis is kept. On the way up it returns to its place, and all other voxels are 0. Images may have any size.

    Args:
        spatial_dims: 2 or 3.
        in_channels: number of channels of the image.
        out_channels: number of classes C, the background included.
        channels: number of channels of each level. The default is that of VGG-16, as in the paper of SegNet.
        num_convs: number of convolutions of each level, the same down and up.
        dropout: probability with which a feature is dropped.

    Raises:
        ValueError: for fewer than 2 classes, other spatial_dims, numbers that are not positive, num_convs of another
            length than channels, or a dropout outside [0, 1).
    """

    @check_arguments
    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        channels: Sequence[int] = (64, 128, 256, 512, 512),
        num_convs: Sequence[int] = (2, 2, 3, 3, 3),
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        check_options(spatial_dims, in_channels, out_channels, channels, dropout)
        if len(num_convs) != len(channels) or min(num_convs) < 1:
            raise ValueError(
                f"num_convs must be {len(channels)} positive integers, as many as channels, got {tuple(num_convs)}."
            )
        self.out_channels = out_channels
        self.spatial_dims = spatial_dims
        self.pool = F.max_pool2d if spatial_dims == 2 else F.max_pool3d
        self.unpool = F.max_unpool2d if spatial_dims == 2 else F.max_unpool3d
        before = [in_channels, *channels]
        after = [channels[0], *channels]  # what the decoder's level gives to the one above it
        self.encoder, self.decoder = nn.ModuleList(), nn.ModuleList()
        for level, (width, n) in enumerate(zip(channels, num_convs, strict=True)):
            self.encoder.append(_convolutions(spatial_dims, [before[level], *[width] * n], "RELU", dropout))
            self.decoder.append(_convolutions(spatial_dims, [*[width] * n, after[level]], "RELU", dropout))
        self.final = Conv[Conv.CONV, spatial_dims](channels[0], out_channels, kernel_size=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """
        Args:
            x: image ``[B, in_channels, *S]``.

        Returns:
            logits ``[B, C, *S]``.

        Raises:
            ValueError: when the image is smaller than the levels allow.
        """
        check_image_axes(x, self.spatial_dims)
        check_min_size(x, len(self.encoder))
        places = []
        for level in self.encoder:
            x = level(x)
            size = x.shape[2:]
            x, indices = self.pool(x, 2, ceil_mode=True, return_indices=True)
            places.append((indices, size))
        for level in reversed(self.decoder):
            indices, size = places.pop()
            x = level(self.unpool(x, indices, [2] * len(size), output_size=size))
        logits: torch.Tensor = self.final(x)
        return logits


class BlackBoxCalibrationNetwork(nn.Module):
    """
    Small calibration network on the predictions of a black box (Kassapis et al. 2021,
    https://arxiv.org/abs/2006.13144): five blocks of 3x3 convolution, batch norm, leaky ReLU and dropout, and a 1x1
    convolution. It corrects the confidence of the black box. It cannot find what the black box does not show.

    Args:
        spatial_dims: 2 or 3.
        in_channels: number of channels of the predictions, and of the image where it is given with them.
        out_channels: number of classes C, the background included.
        channels: number of channels of each block.
        dropout: probability with which a feature is dropped.

    Raises:
        ValueError: for fewer than 2 classes, other spatial_dims, numbers of channels that are not positive, or a
            dropout outside [0, 1).
    """

    @check_arguments
    def __init__(
        self, spatial_dims: int, in_channels: int, out_channels: int, channels: int = 64, dropout: float = 0.1
    ) -> None:
        super().__init__()
        check_options(spatial_dims, in_channels, out_channels, [channels], dropout)
        self.out_channels = out_channels
        self.spatial_dims = spatial_dims
        act = ("LEAKYRELU", {"negative_slope": _NEGATIVE_SLOPE})
        self.blocks = _convolutions(spatial_dims, [in_channels, *[channels] * _BLACK_BOX_BLOCKS], act, dropout)
        self.final = Conv[Conv.CONV, spatial_dims](channels, out_channels, kernel_size=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """
        Args:
            x: predictions ``[B, in_channels, *S]``, probabilities or logits.

        Returns:
            logits ``[B, C, *S]``.
        """
        check_image_axes(x, self.spatial_dims)
        logits: torch.Tensor = self.final(self.blocks(x))
        return logits


def _convolutions(spatial_dims: int, widths: Sequence[int], act: str | tuple, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        *(
            Convolution(spatial_dims, before, after, adn_ordering="NAD", act=act, norm="BATCH", dropout=dropout)
            for before, after in pairwise(widths)
        )
    )
