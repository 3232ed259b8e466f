# SPDX-License-Identifier: Apache-2.0
"""Metrics of a distribution of label maps against its raters: a function ``compute_x`` and a class ``XMetric`` each."""

from .adaptive_calibration_error import AdaptiveCalibrationErrorMetric, compute_adaptive_calibration_error
from .ambiguity import AmbiguityAccuracyMetric, compute_ambiguity, fit_ambiguity_threshold
from .brier_score import BrierScoreMetric, compute_brier_score
from .calibration_error import (
    ExpectedCalibrationErrorMetric,
    ItemCalibrationErrorMetric,
    compute_calibration_bins,
    expected_calibration_error,
)
from .case_dice import CaseDiceMetric, compute_case_dice
from .distance_metric import DistanceMetric
from .energy_distance import GeneralizedEnergyDistanceMetric, compute_generalized_energy_distance
from .energy_distance_curve import EnergyDistanceCurveMetric, compute_energy_distance_curve
from .entropy_decomposition import EntropyDecomposition, EntropyDecompositionMetric, compute_entropy_decomposition
from .hungarian_matched_iou import HungarianMatchedIoUMetric, compute_hungarian_matched_iou
from .maximum_dice_match import MaximumDiceMatchMetric, compute_maximum_dice_match
from .metric import ItemMetric
from .mode_frequency import ModeFrequencyMetric, compute_mode_frequency
from .pairwise_distance import LabelMapDistance, compute_pairwise_distance
from .pixel_flip_ratio import PixelFlipRatioMetric, compute_pixel_flip_ratio
from .pooled_metric import PooledMetric
from .predictive_entropy import PredictiveEntropyMetric
from .rank_correlation import (
    DiversityCorrelationMetric,
    EmptyFractionCorrelationMetric,
    compute_rank_correlation,
)
from .rater_dice import RaterDiceMetric, compute_rater_dice
from .reduction import reduce_metric
from .region_dice import BRATS_REGIONS, RegionDiceMetric, SampleDiceMetric, compute_region_dice, compute_sample_dice
from .region_surface_dice import RegionSurfaceDiceMetric, compute_region_surface_dice
from .sample_diversity import SampleDiversityMetric, compute_sample_diversity
from .uncertainty_correlation import UncertaintyCorrelationMetric, compute_uncertainty_correlation
from .volume_crps import VolumeCRPSMetric, compute_volume_crps
from .weight_entropy import WeightEntropyMetric

__all__ = [
    "BRATS_REGIONS",
    "AdaptiveCalibrationErrorMetric",
    "AmbiguityAccuracyMetric",
    "BrierScoreMetric",
    "CaseDiceMetric",
    "DistanceMetric",
    "DiversityCorrelationMetric",
    "EmptyFractionCorrelationMetric",
    "EnergyDistanceCurveMetric",
    "EntropyDecomposition",
    "EntropyDecompositionMetric",
    "ExpectedCalibrationErrorMetric",
    "GeneralizedEnergyDistanceMetric",
    "HungarianMatchedIoUMetric",
    "ItemCalibrationErrorMetric",
    "ItemMetric",
    "LabelMapDistance",
    "MaximumDiceMatchMetric",
    "ModeFrequencyMetric",
    "PixelFlipRatioMetric",
    "PooledMetric",
    "PredictiveEntropyMetric",
    "RaterDiceMetric",
    "RegionDiceMetric",
    "RegionSurfaceDiceMetric",
    "SampleDiceMetric",
    "SampleDiversityMetric",
    "UncertaintyCorrelationMetric",
    "VolumeCRPSMetric",
    "WeightEntropyMetric",
    "compute_adaptive_calibration_error",
    "compute_ambiguity",
    "compute_brier_score",
    "compute_calibration_bins",
    "compute_case_dice",
    "compute_energy_distance_curve",
    "compute_entropy_decomposition",
    "compute_generalized_energy_distance",
    "compute_hungarian_matched_iou",
    "compute_maximum_dice_match",
    "compute_mode_frequency",
    "compute_pairwise_distance",
    "compute_pixel_flip_ratio",
    "compute_rank_correlation",
    "compute_rater_dice",
    "compute_region_dice",
    "compute_region_surface_dice",
    "compute_sample_dice",
    "compute_sample_diversity",
    "compute_uncertainty_correlation",
    "compute_volume_crps",
    "expected_calibration_error",
    "fit_ambiguity_threshold",
    "reduce_metric",
]
