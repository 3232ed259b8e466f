# SPDX-License-Identifier: Apache-2.0
"""Data sets, their layouts and splits; ``lidc`` is LIDC-IDRI, ``simulated`` patients whose ambiguity is known."""

from __future__ import annotations

from . import lidc, simulated
from .brats import brats_datalist
from .case import CaseError
from .case_sampler import CaseSampler
from .cityscapes import (
    CITYSCAPES_CLASSES,
    CITYSCAPES_SWITCHED_CLASSES,
    CITYSCAPES_SWITCHES,
    cityscapes_datalist,
)
from .csv_file import csv_text, write_csv
from .dataset import CaseDataset
from .kits import KITS_CLASSES, kits_datalist
from .layouts import BRATS_CLASSES, BRATS_LAYOUTS, BRATS_MODALITIES, Layout
from .new_file import new_file, remove_partial
from .prostatex import PROSTATE_ZONES, prostatex_datalist
from .rater_folder import RaterLayout, rater_datalist
from .seeded_draws import Draw, SeededDraws, seed_all
from .simulated.abdomen import simulated_kidney_folder
from .simulated.brain_folder import simulated_brain_folder
from .simulated.prostate import simulated_prostate_folder
from .simulated.streets import simulated_cityscapes_folder
from .splits import SPLITS, read_split, share_of_cases, split_cases, write_split

__all__ = [
    "BRATS_CLASSES",
    "BRATS_LAYOUTS",
    "BRATS_MODALITIES",
    "CITYSCAPES_CLASSES",
    "CITYSCAPES_SWITCHED_CLASSES",
    "CITYSCAPES_SWITCHES",
    "KITS_CLASSES",
    "PROSTATE_ZONES",
    "SPLITS",
    "CaseDataset",
    "CaseError",
    "CaseSampler",
    "Draw",
    "Layout",
    "RaterLayout",
    "SeededDraws",
    "brats_datalist",
    "cityscapes_datalist",
    "csv_text",
    "kits_datalist",
    "lidc",
    "new_file",
    "prostatex_datalist",
    "rater_datalist",
    "read_split",
    "remove_partial",
    "seed_all",
    "share_of_cases",
    "simulated",
    "simulated_brain_folder",
    "simulated_cityscapes_folder",
    "simulated_kidney_folder",
    "simulated_prostate_folder",
    "split_cases",
    "write_csv",
    "write_split",
]
