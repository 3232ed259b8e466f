# SPDX-License-Identifier: Apache-2.0
"""Inferers: image in, predictive distribution and samples out."""

from .predictive import PredictiveInferer
from .raters import RaterInferer
from .sampling import Samples, draw_samples
from .valid_convolution import ValidConvolutionInferer

__all__ = [
    "PredictiveInferer",
    "RaterInferer",
    "Samples",
    "ValidConvolutionInferer",
    "draw_samples",
]
