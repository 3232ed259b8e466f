# SPDX-License-Identifier: Apache-2.0
"""Inferers: image in, predictive distribution and samples out."""

from .null_samplers import IndependentDistribution, ThresholdDistribution
from .predictive import PredictiveInferer
from .sampling import Samples, draw_samples
from .valid_convolution import ValidConvolutionInferer

__all__ = [
    "IndependentDistribution",
    "PredictiveInferer",
    "Samples",
    "ThresholdDistribution",
    "ValidConvolutionInferer",
    "draw_samples",
]
