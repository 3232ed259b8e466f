# SPDX-License-Identifier: Apache-2.0
"""Predictive distributions over the logit maps of an image."""

from .ancestral import AncestralDistribution
from .augmented import AugmentedDistribution
from .base import PredictiveDistribution, autocast_mode, full_precision
from .bayesian_latent import BayesianLatentDistribution
from .dropout import DropoutDistribution
from .expert_mixture import ExpertMixtureDistribution
from .flow import FlowDistribution, integrate_flow
from .hypotheses import HypothesesDistribution
from .labels import check_labels
from .latent import LatentDistribution
from .low_rank_normal import LowRankNormal, split_parameters
from .marginal import DeterministicDistribution, IndependentDistribution, ThresholdDistribution
from .masked import MaskedDistribution
from .noise import draw_latent, draw_noise, draw_seeds
from .outputs import BayesianOutput, FlowOutput, Gaussian, LatentLevel, LatentOutput, RefinementOutput
from .refined import RefinedDistribution
from .scaled import ScaledDistribution
from .weighted_samples import ExpertSamples
from .weights import check_weights, draw_map, weights_of, with_weights
from .windowed import WindowedDistribution

__all__ = [
    "AncestralDistribution",
    "AugmentedDistribution",
    "BayesianLatentDistribution",
    "BayesianOutput",
    "DeterministicDistribution",
    "DropoutDistribution",
    "ExpertMixtureDistribution",
    "ExpertSamples",
    "FlowDistribution",
    "FlowOutput",
    "Gaussian",
    "HypothesesDistribution",
    "IndependentDistribution",
    "LatentDistribution",
    "LatentLevel",
    "LatentOutput",
    "LowRankNormal",
    "MaskedDistribution",
    "PredictiveDistribution",
    "RefinedDistribution",
    "RefinementOutput",
    "ScaledDistribution",
    "ThresholdDistribution",
    "WindowedDistribution",
    "autocast_mode",
    "check_labels",
    "check_weights",
    "draw_latent",
    "draw_map",
    "draw_noise",
    "draw_seeds",
    "full_precision",
    "integrate_flow",
    "split_parameters",
    "weights_of",
    "with_weights",
]
