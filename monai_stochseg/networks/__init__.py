# SPDX-License-Identifier: Apache-2.0
"""Networks and the parts that they share."""

from . import blocks, export, nets
from .contract import ParameterNetwork, PredictiveNetwork, gives_parameters, is_predictive

__all__ = ["ParameterNetwork", "PredictiveNetwork", "blocks", "export", "gives_parameters", "is_predictive", "nets"]
