# SPDX-License-Identifier: Apache-2.0
"""A scan of a few voxels, and its DICOM files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from monai_stochseg.data.lidc import LIDCReading, LIDCScan

SIZE = (8, 6, 4)


def tiny_reading(id_: int = 1, origin: tuple[int, int, int] = (3, 2, 1)) -> LIDCReading:
    return LIDCReading(id_, np.full(9, 3), np.array(origin), np.ones((2, 2, 2), dtype=bool))


def tiny_scan(*readings: LIDCReading, number: int = 1) -> LIDCScan:
    clusters = (readings or (tiny_reading(),),)
    positions = np.array([-10.0, -7.5, -5.0, -2.5])
    return LIDCScan(number, f"LIDC-IDRI-{number:04d}", "1.2", f"1.3.{number}", 2.5, 0.7, positions, clusters)


def stored_values() -> np.ndarray:
    """Distinct values ``[rows, columns, slices]``; in HU half of it less 1024."""
    return 2 * np.arange(np.prod(SIZE)).reshape(SIZE)


def write_slice(file: Path, scan: LIDCScan, k: int, **tags: Any) -> Path:
    """One slice, with other tags than its own where they are given."""
    import pydicom
    from pydicom.uid import ExplicitVRLittleEndian

    pixels = stored_values()[..., k]
    header = pydicom.Dataset()
    header.file_meta = pydicom.dataset.FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    content = {
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2",
        "SOPInstanceUID": f"1.4.{k + 1}",
        "SeriesInstanceUID": scan.series_instance_uid,
        "InstanceNumber": 10 - k,  # from the top, as scanners count
        "ImagePositionPatient": [0, 0, scan.slice_positions[k]],
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "PixelSpacing": [scan.pixel_spacing] * 2,
        "Rows": pixels.shape[0],
        "Columns": pixels.shape[1],
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": 15,
        "PixelRepresentation": 1,
        "RescaleSlope": 0.5,
        "RescaleIntercept": -1024,
        "PixelData": pixels.astype("<i2").tobytes(),
    }
    for tag, value in (content | tags).items():
        if value is not None:
            setattr(header, tag, value)
    file.parent.mkdir(parents=True, exist_ok=True)
    header.save_as(file, enforce_file_format=True)
    return file


def write_series(folder: Path, scan: LIDCScan) -> Path:
    """All slices; the names' order is not that of z."""
    for k in range(SIZE[2]):
        write_slice(folder / f"1-{(k * 3) % 4:03d}.dcm", scan, k)
    return folder
