# SPDX-License-Identifier: Apache-2.0
"""Predictive distributions over the logit maps of an image."""

from .base import PredictiveDistribution, autocast_mode, full_precision
from .hypotheses import HypothesesDistribution
from .labels import check_labels
from .low_rank_normal import LowRankNormal, split_parameters
from .marginal import DeterministicDistribution, IndependentDistribution, ThresholdDistribution
from .masked import MaskedDistribution
from .noise import draw_noise, draw_seeds
from .weighted_samples import ExpertSamples
from .weights import check_weights, draw_map, weights_of, with_weights

__all__ = [
    "DeterministicDistribution",
    "ExpertSamples",
    "HypothesesDistribution",
    "IndependentDistribution",
    "LowRankNormal",
    "MaskedDistribution",
    "PredictiveDistribution",
    "ThresholdDistribution",
    "autocast_mode",
    "check_labels",
    "check_weights",
    "draw_map",
    "draw_noise",
    "draw_seeds",
    "full_precision",
    "split_parameters",
    "weights_of",
    "with_weights",
]
