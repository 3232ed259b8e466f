# SPDX-License-Identifier: Apache-2.0
"""What is asked and how the answer is judged, one data set a file."""

from .base import Task
from .brats import BraTS
from .cityscapes import Cityscapes
from .description import DataDescription
from .kits import KiTS
from .lidc import LIDC
from .prostatex import ProstateX
from .rater_folder import IntensityOptions, RaterFolder
from .volumes import SplitOptions, VolumeOptions

__all__ = [
    "LIDC",
    "BraTS",
    "Cityscapes",
    "DataDescription",
    "IntensityOptions",
    "KiTS",
    "ProstateX",
    "RaterFolder",
    "SplitOptions",
    "Task",
    "VolumeOptions",
]
