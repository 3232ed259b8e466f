# SPDX-License-Identifier: Apache-2.0
"""Parts that networks share."""

from .layer_features import LayerFeatures
from .noise_injection import NoiseInjection
from .pointwise_head import pointwise_head
from .variational_conv import VariationalConv

__all__ = ["LayerFeatures", "NoiseInjection", "VariationalConv", "pointwise_head"]
