# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from monai.networks.layers.factories import Conv
from torch import nn


def pointwise_head(spatial_dims: int, in_channels: int, out_channels: int) -> nn.Sequential:
    """Three 1x1 convolutions with ReLU between them, ``[B, in_channels, *S]`` to ``[B, out_channels, *S]``."""
    conv = Conv[Conv.CONV, spatial_dims]
    return nn.Sequential(
        conv(in_channels, in_channels, kernel_size=1),
        nn.ReLU(),
        conv(in_channels, in_channels, kernel_size=1),
        nn.ReLU(),
        conv(in_channels, out_channels, kernel_size=1),
    )
