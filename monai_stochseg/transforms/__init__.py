# SPDX-License-Identifier: Apache-2.0
"""Transforms that MONAI lacks: cases of several raters, void voxels, checks that name the patient."""

from __future__ import annotations

from .check_min_size import CheckMinSize, CheckMinSized
from .class_switch import (
    ClassSwitchModesd,
    ClassSwitchProbabilitiesd,
    RandClassSwitch,
    RandClassSwitchd,
    class_switch_modes,
    class_switch_probabilities,
)
from .fix_rater import FixRater, FixRaterd
from .label_smoothing import LabelSmoothing, LabelSmoothingd
from .load_case import LoadCased
from .load_cityscapes import LoadCityscapesd
from .load_crop import LoadCropd
from .load_rater_case import LoadRaterCased
from .majority_vote import MajorityVote, MajorityVoted
from .mask_label import MaskLabel, MaskLabeld
from .merge_label_parts import MergeLabelPartsd
from .mutual_information import MutualInformationd
from .normalize_above_mean import NormalizeAboveMean, NormalizeAboveMeand
from .pad_raters import PadRatersd
from .predictive_entropy import PredictiveEntropy, PredictiveEntropyd
from .rand_rater import RandRater, RandRaterd
from .region_probability import RegionProbability, RegionProbabilityd
from .save_raster import SaveRasterd
from .stack_raters import StackRatersd
from .staple import STAPLE, STAPLEd
from .svls import SVLS, SVLSd, spatially_varying_label_smoothing

__all__ = [
    "STAPLE",
    "SVLS",
    "CheckMinSize",
    "CheckMinSized",
    "ClassSwitchModesd",
    "ClassSwitchProbabilitiesd",
    "FixRater",
    "FixRaterd",
    "LabelSmoothing",
    "LabelSmoothingd",
    "LoadCased",
    "LoadCityscapesd",
    "LoadCropd",
    "LoadRaterCased",
    "MajorityVote",
    "MajorityVoted",
    "MaskLabel",
    "MaskLabeld",
    "MergeLabelPartsd",
    "MutualInformationd",
    "NormalizeAboveMean",
    "NormalizeAboveMeand",
    "PadRatersd",
    "PredictiveEntropy",
    "PredictiveEntropyd",
    "RandClassSwitch",
    "RandClassSwitchd",
    "RandRater",
    "RandRaterd",
    "RegionProbability",
    "RegionProbabilityd",
    "STAPLEd",
    "SVLSd",
    "SaveRasterd",
    "StackRatersd",
    "class_switch_modes",
    "class_switch_probabilities",
    "spatially_varying_label_smoothing",
]
