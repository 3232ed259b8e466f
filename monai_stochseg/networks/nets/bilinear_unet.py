# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.layers.factories import Conv
from monai.networks.layers.utils import get_norm_layer
from monai.utils import InterpolateMode
from torch import nn
from torch.nn import functional as F

from monai_stochseg.distributions.arguments import (
    check_arguments,
    check_at_least,
    check_fraction,
    check_norm,
    check_spatial_dims,
)
from monai_stochseg.distributions.images import check_image_axes

# (Kohl et al. 2018, https://arxiv.org/abs/1806.05034, appendix)
_CONVS_PER_BLOCK = 3
_DROPOUT_BLOCKS = 3
_BIAS_STD = 1e-3


class BilinearEncoder(nn.Module):
    """
    Contracting half of a U-Net: at each level three 3x3 convolutions with ReLU, between levels half the size, as the
    Probabilistic U-Net's core, prior and posterior have it (Kohl et al. 2018, https://arxiv.org/abs/1806.05034).

    Bilinear interpolation to half the size is the mean of two voxels along each axis; with an odd number the last voxel
    is kept. Weights start orthogonal, biases truncated normal.

    Args:
        spatial_dims: 2 or 3.
        in_channels: number of channels of the image.
        channels: number of channels of each level.
        norm: normalisation between convolution and ReLU, by MONAI's name and options. Default: none, as in the paper.
        dropout: probability with which an incoming feature of the three innermost levels is dropped; the image is not.

    Raises:
        ValueError: for other spatial_dims, channels that are not positive, a dropout outside [0, 1), or dropout with a
            single level.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        channels: Sequence[int] = (32, 64, 128, 256, 512),
        norm: str | tuple | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_spatial_dims(spatial_dims)
        check_at_least(1, in_channels=in_channels)
        if len(channels) == 0 or min(channels) < 1:
            raise ValueError(f"channels must be one or more positive integers, got {tuple(channels)}.")
        check_fraction(dropout=dropout)
        if dropout > 0 and len(channels) == 1:
            raise ValueError(f"dropout acts below the first level: give two channels or more, got {tuple(channels)}.")
        check_norm(norm)
        widths = [in_channels, *channels]
        self.blocks = nn.ModuleList(
            conv_block(spatial_dims, before, after, norm) for before, after in zip(widths, channels, strict=False)
        )
        self.dropout = nn.Dropout(dropout) if dropout > 0 else nn.Identity()
        self.dropout_level = len(channels) - _DROPOUT_BLOCKS
        self.apply(init_orthogonal)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """
        Args:
            x: image ``[B, in_channels, *S]``.

        Returns:
            the features of each level, from the whole size to the smallest.
        """
        features: list[torch.Tensor] = []
        for level, block in enumerate(self.blocks):
            if level > 0:
                x = halve(x)
                x = self.dropout(x) if level >= self.dropout_level else x
            x = block(x)
            features.append(x)
        return features


class BilinearUNet(nn.Module):
    """
    U-Net with bilinear resampling, the core of the Probabilistic U-Net and of its baselines (Kohl et al. 2018,
    https://arxiv.org/abs/1806.05034). It takes images of any size. The default channels are the paper's on LIDC: 32,
    doubled at each of four down-samplings.

    With ``channels=(32, 64, 128, 192, 192, 192, 192)`` and ``norm="BATCH"`` it has the shape of PHiSeg's U-Net
    (Baumgartner et al. 2019, https://arxiv.org/abs/1906.04045), the backbone on LIDC of Monteiro et al. 2020
    (https://arxiv.org/abs/2006.06015) and of Gao et al. 2023 (https://arxiv.org/abs/2212.07328).

    Args:
        spatial_dims: 2 or 3.
        in_channels: number of channels of the image.
        out_channels: number of channels of a last 1x1 convolution. None returns the features that it would read,
            ``channels[0]`` of them.
        channels: number of channels of each level.
        norm: normalisation between convolution and ReLU, by MONAI's name and options, such as ``"BATCH"`` or
            ``("GROUP", {"num_groups": 8})``. Default: none, as in the paper.
        dropout: probability with which an incoming feature of the three innermost blocks of encoder and decoder is
            dropped; the paper's Dropout U-Net has 0.5. With three levels or fewer it acts in all blocks, with four in
            all of the decoder. The image is not dropped.
        align_corners: whether the decoder's interpolation maps corner to corner, as in the authors' released code; the
            paper does not say.

    Raises:
        ValueError: for other spatial_dims, numbers of channels that are not positive, a dropout outside [0, 1), or
            dropout with a single level.
    """

    @check_arguments
    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int | None,
        channels: Sequence[int] = (32, 64, 128, 256, 512),
        norm: str | tuple | None = None,
        dropout: float = 0.0,
        align_corners: bool = False,
    ) -> None:
        super().__init__()
        check_at_least(1, out_channels=1 if out_channels is None else out_channels)
        self.encoder = BilinearEncoder(spatial_dims, in_channels, channels, norm, dropout)
        self.spatial_dims = spatial_dims
        self.dropout = nn.Dropout(dropout) if dropout > 0 else nn.Identity()
        self.dropout_blocks = _DROPOUT_BLOCKS  # an attribute, for TorchScript
        self.mode = InterpolateMode.BILINEAR.value if spatial_dims == 2 else InterpolateMode.TRILINEAR.value
        self.align_corners = align_corners
        self.blocks = nn.ModuleList(
            conv_block(spatial_dims, channels[level] + channels[level - 1], channels[level - 1], norm)
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
        check_image_axes(x, self.spatial_dims)
        features = self.encoder(x)
        y = features[-1]
        for i, block in enumerate(self.blocks):
            y = join_skip(y, features[-2 - i], self.mode, self.align_corners)
            y = block(self.dropout(y) if i < self.dropout_blocks else y)
        result: torch.Tensor = self.final(y)
        return result


def halve(x: torch.Tensor) -> torch.Tensor:
    """Half the size, as the mean of two voxels along each axis; the last of an odd number stands alone."""
    kernel = [min(2, n) for n in x.shape[2:]]  # avg_pool3d refuses 2 along an axis of one voxel, ceil_mode or not
    if not torch.jit.is_scripting():  # noqa: SIM102 - TorchScript would compile the other tests
        if torch.jit.is_tracing() or torch.compiler.is_exporting():
            kernel = [2] * (x.dim() - 2)  # for other sizes than the example's
    return F.avg_pool2d(x, kernel, ceil_mode=True) if x.dim() == 4 else F.avg_pool3d(x, kernel, ceil_mode=True)


def join_skip(x: torch.Tensor, skip: torch.Tensor, mode: str, align_corners: bool = False) -> torch.Tensor:
    """The skip's channels and those of ``x``, interpolated to the skip's size."""
    x = F.interpolate(x, size=skip.shape[2:], mode=mode, align_corners=align_corners)
    return torch.cat([skip, x], dim=1)


def init_orthogonal(module: nn.Module) -> None:
    """Orthogonal weights and small truncated-normal biases, for ``module.apply``."""
    if isinstance(module, (nn.Conv2d, nn.Conv3d, nn.Linear)):
        nn.init.orthogonal_(module.weight)
        if module.bias is not None:
            nn.init.trunc_normal_(module.bias, std=_BIAS_STD, a=-2 * _BIAS_STD, b=2 * _BIAS_STD)


def conv_block(
    spatial_dims: int,
    in_channels: int,
    out_channels: int,
    norm: str | tuple | None,
    num_convs: int = _CONVS_PER_BLOCK,
) -> nn.Sequential:
    """3x3 convolutions, each with its normalisation and ReLU."""
    conv = Conv[Conv.CONV, spatial_dims]
    layers: list[nn.Module] = []
    for i in range(num_convs):
        layers.append(conv(out_channels if i else in_channels, out_channels, kernel_size=3, padding=1))
        if norm is not None:
            layers.append(get_norm_layer(norm, spatial_dims, out_channels))
        layers.append(nn.ReLU())
    return nn.Sequential(*layers)
