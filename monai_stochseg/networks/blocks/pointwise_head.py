# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from monai.networks.layers.factories import Conv
from torch import nn

from monai_stochseg.distributions.arguments import check_arguments, check_at_least, check_spatial_dims


@check_arguments
def pointwise_head(spatial_dims: int, in_channels: int, out_channels: int) -> nn.Sequential:
    """Three 1x1 convolutions with ReLU between them, ``[B, in_channels, *S]`` to ``[B, out_channels, *S]``."""
    check_spatial_dims(spatial_dims)
    check_at_least(1, in_channels=in_channels, out_channels=out_channels)
    conv = Conv[Conv.CONV, spatial_dims]
    return nn.Sequential(
        conv(in_channels, in_channels, kernel_size=1),
        nn.ReLU(),
        conv(in_channels, in_channels, kernel_size=1),
        nn.ReLU(),
        conv(in_channels, out_channels, kernel_size=1),
    )
