# SPDX-License-Identifier: Apache-2.0
"""Metrics of a distribution of label maps against its raters: a function ``compute_x`` and a class ``XMetric`` each."""

from .energy_distance import GeneralizedEnergyDistanceMetric, compute_generalized_energy_distance
from .metric import ItemMetric
from .pairwise_distance import LabelMapDistance, compute_pairwise_distance
from .reduction import reduce_metric
from .region_dice import BRATS_REGIONS, RegionDiceMetric, SampleDiceMetric, compute_region_dice, compute_sample_dice
from .sample_diversity import SampleDiversityMetric, compute_sample_diversity

__all__ = [
    "BRATS_REGIONS",
    "GeneralizedEnergyDistanceMetric",
    "ItemMetric",
    "LabelMapDistance",
    "RegionDiceMetric",
    "SampleDiceMetric",
    "SampleDiversityMetric",
    "compute_generalized_energy_distance",
    "compute_pairwise_distance",
    "compute_region_dice",
    "compute_sample_dice",
    "compute_sample_diversity",
    "reduce_metric",
]
