# SPDX-License-Identifier: Apache-2.0
"""Networks, one a file."""

from .bilinear_unet import BilinearUNet
from .deepmedic import DeepMedic
from .probabilistic_unet import LatentDistribution, ProbabilisticUNet, ProbabilisticUNetOutput
from .stochastic_segmentation_network import StochasticSegmentationNetwork

__all__ = [
    "BilinearUNet",
    "DeepMedic",
    "LatentDistribution",
    "ProbabilisticUNet",
    "ProbabilisticUNetOutput",
    "StochasticSegmentationNetwork",
]
