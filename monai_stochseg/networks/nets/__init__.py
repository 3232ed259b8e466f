# SPDX-License-Identifier: Apache-2.0
"""Networks, one a file."""

from .deepmedic import DeepMedic
from .stochastic_segmentation_network import StochasticSegmentationNetwork

__all__ = ["DeepMedic", "StochasticSegmentationNetwork"]
