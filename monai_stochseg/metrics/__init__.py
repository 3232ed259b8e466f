# SPDX-License-Identifier: Apache-2.0
"""Metrics of a distribution of label maps against its raters: a function ``compute_x`` and a class ``XMetric`` each."""

from .brier_score import BrierScoreMetric, compute_brier_score
from .energy_distance import GeneralizedEnergyDistanceMetric, compute_generalized_energy_distance
from .entropy_decomposition import EntropyDecomposition, EntropyDecompositionMetric, compute_entropy_decomposition
from .hungarian_matched_iou import HungarianMatchedIoUMetric, compute_hungarian_matched_iou
from .maximum_dice_match import MaximumDiceMatchMetric, compute_maximum_dice_match
from .metric import ItemMetric
from .pairwise_distance import LabelMapDistance, compute_pairwise_distance
from .reduction import reduce_metric
from .region_dice import BRATS_REGIONS, RegionDiceMetric, SampleDiceMetric, compute_region_dice, compute_sample_dice
from .sample_diversity import SampleDiversityMetric, compute_sample_diversity
from .uncertainty_correlation import UncertaintyCorrelationMetric, compute_uncertainty_correlation
from .volume_crps import VolumeCRPSMetric, compute_volume_crps

__all__ = [
    "BRATS_REGIONS",
    "BrierScoreMetric",
    "EntropyDecomposition",
    "EntropyDecompositionMetric",
    "GeneralizedEnergyDistanceMetric",
    "HungarianMatchedIoUMetric",
    "ItemMetric",
    "LabelMapDistance",
    "MaximumDiceMatchMetric",
    "RegionDiceMetric",
    "SampleDiceMetric",
    "SampleDiversityMetric",
    "UncertaintyCorrelationMetric",
    "VolumeCRPSMetric",
    "compute_brier_score",
    "compute_entropy_decomposition",
    "compute_generalized_energy_distance",
    "compute_hungarian_matched_iou",
    "compute_maximum_dice_match",
    "compute_pairwise_distance",
    "compute_region_dice",
    "compute_sample_dice",
    "compute_sample_diversity",
    "compute_uncertainty_correlation",
    "compute_volume_crps",
    "reduce_metric",
]
