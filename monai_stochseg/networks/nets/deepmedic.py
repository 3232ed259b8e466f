# SPDX-License-Identifier: Apache-2.0
"""DeepMedic, the multi-scale network of unpadded convolutions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from monai.networks.blocks import ADN
from monai.networks.layers.factories import Conv, Pool
from torch import nn

from monai_stochseg.distributions.arguments import check_arguments, check_at_least, check_per_axis, check_spatial_dims
from monai_stochseg.distributions.images import check_image_axes

__all__ = ["DeepMedic"]

KERNEL_SIZE = 3


class DeepMedic(nn.Module):
    """
    DeepMedic: parallel pathways of unpadded convolutions that see the same place at several scales.

    Kamnitsas et al. 2017, Efficient multi-scale 3D CNN with fully connected CRF for accurate brain lesion
    segmentation (https://arxiv.org/abs/1603.05959), with the pre-activation blocks and the widths that
    Monteiro et al. 2020, Stochastic Segmentation Networks (https://arxiv.org/abs/2006.06015) use: batch norm,
    dropout, PReLU, convolution without bias, and an identity shortcut where a block keeps its number of channels.

    The pathway of scale s crops the input's centre to what its output needs, averages cells of s voxels an axis,
    convolves and repeats each voxel s times an axis; the pathways are concatenated and followed by fully connected
    layers, which are 1x1 convolutions. (The code of Monteiro et al. keeps the middle voxel of a cell instead of its
    average.) As nothing is padded, an output of n voxels along an axis takes an input of ``n + 2 * margin``: with the
    default scales and channels, 30 voxels take 110.

    Args:
        spatial_dims: number of spatial dimensions, 2 or 3.
        in_channels: number of channels of the image.
        out_channels: number of channels of the output. None leaves the final convolution out: the network then
            returns the ``fully_connected[-1]`` features that this convolution would see, as a backbone.
            (The backbone of Monteiro et al. keeps it, with 50 channels.)
        scales: the pathways' scales, in voxels of the image per voxel of the pathway.
        channels: feature maps of the 3x3(x3) convolutions of each pathway.
        fully_connected: feature maps of the fully connected layers.
        dropout: dropout probabilities before each fully connected layer, and before the final convolution.

    Attributes:
        feature_channels: number of channels of the output.
        margin: voxels lost at each end of an axis, ``len(channels) * max(scales)``.
        alignment: an output size is a multiple of this number of voxels, the least common multiple of the scales.

    Raises:
        ValueError: when ``spatial_dims`` is not 2 or 3, a number of channels or a scale is less than 1, ``scales``,
            ``channels`` or ``fully_connected`` is empty, or ``dropout`` has not one value for each fully connected
            layer and one for the final convolution.

    Example::

        >>> net = DeepMedic(spatial_dims=3, in_channels=4, out_channels=4)
        >>> net.output_size(110)
        (30, 30, 30)
        >>> inferer = ValidConvolutionInferer(roi_size=60, margin=net.margin, alignment=net.alignment)
    """

    @check_arguments
    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int | None = None,
        scales: Sequence[int] = (1, 3, 5),
        channels: Sequence[int] = (30, 30, 40, 40, 40, 40, 50, 50),
        fully_connected: Sequence[int] = (250, 250),
        dropout: Sequence[float] = (0.0, 0.5, 0.5),
    ) -> None:
        super().__init__()
        check_spatial_dims(spatial_dims)
        for name, value in (("in_channels", in_channels), ("out_channels", out_channels)):
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}.")
        for name, values in (("scales", scales), ("channels", channels), ("fully_connected", fully_connected)):
            if len(values) == 0 or min(values) < 1:
                raise ValueError(f"{name} must be one or more positive integers, got {tuple(values)}.")
        if len(dropout) != len(fully_connected) + 1:
            raise ValueError(
                "dropout must have one value for each layer of fully_connected and one for the final convolution: "
                f"{len(fully_connected) + 1} values, got {tuple(dropout)}."
            )
        self.spatial_dims = spatial_dims
        self.feature_channels = fully_connected[-1] if out_channels is None else out_channels
        # attributes, not properties: TorchScript keeps them readable
        self.margin = len(channels) * (KERNEL_SIZE // 2) * max(scales)
        self.alignment = math.lcm(*scales)

        self.pathways = nn.ModuleList(
            _pathway(spatial_dims, in_channels, channels, scale, self.margin) for scale in scales
        )
        widths = [len(scales) * channels[-1], *fully_connected]
        self.fully_connected = nn.Sequential(
            *(
                _PreActivationBlock(spatial_dims, before, after, kernel_size=1, dropout=p)
                for before, after, p in zip(widths, fully_connected, dropout, strict=False)
            )
        )
        self.final = (
            _pre_activation(spatial_dims, widths[-1], dropout[-1])
            if out_channels is None
            else _PreActivationBlock(spatial_dims, widths[-1], out_channels, kernel_size=1, dropout=dropout[-1])
        )

    @check_arguments
    def output_size(self, input_size: Sequence[int] | int) -> tuple[int, ...]:
        """
        The spatial size of the output for an input of spatial size ``input_size``, in voxels.

        Raises:
            ValueError: when the network has no output for this size; the error names the nearest sizes that have.
        """
        size = check_per_axis("input_size", input_size, self.spatial_dims)
        check_at_least(1, input_size=min(size))
        return tuple(_valid_output_size(list(size), self.margin, self.alignment))

    @check_arguments
    def input_size(self, output_size: Sequence[int] | int) -> tuple[int, ...]:
        """
        The spatial size of the input that gives an output of spatial size ``output_size``, in voxels.

        Raises:
            ValueError: when an axis of ``output_size`` is not a positive multiple of ``alignment``.
        """
        size = check_per_axis("output_size", output_size, self.spatial_dims)
        if any(n < 1 or n % self.alignment for n in size):
            raise ValueError(f"output_size must be positive multiples of {self.alignment}, got {size}.")
        return tuple(n + 2 * self.margin for n in size)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """
        Args:
            x: images ``[B, in_channels, *S]``.

        Returns:
            ``[B, feature_channels, *T]``, where T is S less ``2 * margin``: what the central voxels of `x` show.

        Raises:
            ValueError: when an axis of T is not a positive multiple of ``alignment``.
        """
        check_image_axes(x, self.spatial_dims)
        _valid_output_size(list(x.shape[2:]), self.margin, self.alignment)
        features = [pathway(x) for pathway in self.pathways]
        return self.final(self.fully_connected(torch.cat(features, dim=1)))


def _valid_output_size(input_size: list[int], margin: int, alignment: int) -> list[int]:
    """The input size less the margins; raises where an axis is not a positive multiple of the alignment."""
    output_size = [n - 2 * margin for n in input_size]
    smaller = [max(n // alignment, 1) * alignment + 2 * margin for n in output_size]
    larger = [max(-(-n // alignment), 1) * alignment + 2 * margin for n in output_size]
    if smaller != input_size or larger != input_size:
        nearest = f"{smaller}" if smaller == larger else f"{smaller} and {larger}"
        raise ValueError(
            f"DeepMedic has no output for an input of spatial size {input_size}: each axis must be "
            f"{2 * margin} voxels plus a positive multiple of {alignment}; the nearest sizes are {nearest}."
        )
    return output_size


def _pathway(spatial_dims: int, in_channels: int, channels: Sequence[int], scale: int, margin: int) -> nn.Sequential:
    """Image ``[B, in_channels, *S]`` to features ``[B, channels[-1], *T]``, T being S less twice the margin."""
    widths = [in_channels, *channels]
    blocks = [
        _PreActivationBlock(spatial_dims, widths[i], widths[i + 1], KERNEL_SIZE, first=i == 0)
        for i in range(len(channels))
    ]
    crop = _Crop(margin - len(channels) * (KERNEL_SIZE // 2) * scale)
    if scale == 1:
        return nn.Sequential(crop, *blocks)
    # nearest-exact is nearest without its rounding of 1 / scale
    return nn.Sequential(
        crop,
        Pool[Pool.AVG, spatial_dims](kernel_size=scale),
        *blocks,
        nn.Upsample(scale_factor=scale, mode="nearest-exact"),
    )


def _pre_activation(spatial_dims: int, channels: int, dropout: float) -> ADN:
    # dropout_dim=1 drops single values, not whole feature maps
    return ADN("NDA", channels, "PRELU", "BATCH", norm_dim=spatial_dims, dropout=dropout or None, dropout_dim=1)


class _PreActivationBlock(nn.Module):
    """Batch norm, dropout, PReLU, convolution; the first block of a pathway convolves the image as it is."""

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        dropout: float = 0.0,
        first: bool = False,
    ) -> None:
        super().__init__()
        self.adn = nn.Identity() if first else _pre_activation(spatial_dims, in_channels, dropout)
        self.conv = Conv[Conv.CONV, spatial_dims](in_channels, out_channels, kernel_size, bias=False)
        self.crop = _Crop(kernel_size // 2)
        self.shortcut = in_channels == out_channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(self.adn(x))
        if self.shortcut:
            y = y + self.crop(x)
        return y


class _Crop(nn.Module):
    """Takes ``margin`` voxels off both ends of each spatial axis."""

    def __init__(self, margin: int) -> None:
        super().__init__()
        self.margin = margin

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for axis in range(2, x.dim()):
            x = x.narrow(axis, self.margin, x.size(axis) - 2 * self.margin)
        return x
