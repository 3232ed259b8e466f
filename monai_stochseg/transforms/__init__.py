# SPDX-License-Identifier: Apache-2.0
"""Transforms that MONAI lacks: cases of several raters, void voxels, checks that name the patient."""

from __future__ import annotations

from .check_min_size import CheckMinSize, CheckMinSized
from .load_case import LoadCased
from .load_crop import LoadCropd
from .mask_label import MaskLabel, MaskLabeld
from .predictive_entropy import PredictiveEntropy, PredictiveEntropyd

__all__ = [
    "CheckMinSize",
    "CheckMinSized",
    "LoadCased",
    "LoadCropd",
    "MaskLabel",
    "MaskLabeld",
    "PredictiveEntropy",
    "PredictiveEntropyd",
]
