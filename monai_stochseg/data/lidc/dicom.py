# SPDX-License-Identifier: Apache-2.0
"""The CT of LIDC-IDRI, from the DICOM folder as TCIA delivers it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.utils import optional_import

from monai_stochseg.data.case import CaseError

from .database import LIDCScan

pydicom, _ = optional_import("pydicom")  # comes with pylidc

_TAGS = ("ImagePositionPatient", "PixelSpacing", "Rows", "Columns")
_POSITION_TOLERANCE = 0.01  # mm; slices lie at least 0.4 mm apart
_SPACING_TOLERANCE = 1e-3  # mm


def find_lidc_series(dicom_dir: str | os.PathLike) -> dict[str, str]:
    """
    Find the series of a DICOM folder by one header of each folder, so that the folders' names do not matter.

    A folder with ``.dcm`` files is one series, as in all of TCIA's layouts
    (``LIDC-IDRI-0003/<study>/<series>/000001.dcm``). Hidden files and folders are left out.
    Links are followed; a folder that several links lead to counts once.

    Args:
        dicom_dir: the folder of all patients, or any above or below it.

    Returns:
        the folder of each SeriesInstanceUID.

    Raises:
        CaseError: when ``dicom_dir`` is not a folder, a file is not DICOM, or a series is found twice.
    """
    if not Path(dicom_dir).is_dir():
        raise CaseError(f"dicom_dir: there is no folder {dicom_dir}.")
    series: dict[str, str] = {}
    seen: set[str] = set()
    for folder, folders, _ in os.walk(str(dicom_dir), followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:  # reached by a link, which may lead back to its own parent
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if files := _dicom_files(folder):
            uid = _read(files[0], "dicom_dir", specific_tags=["SeriesInstanceUID"]).get("SeriesInstanceUID", "")
            if uid in series:
                raise CaseError(f"dicom_dir: series {uid} is found twice, in {series[uid]} and {folder}; remove one.")
            series[str(uid)] = folder
    return series


def read_lidc_volume(folder: str | os.PathLike, scan: LIDCScan) -> np.ndarray:
    """
    Read a scan's CT and check that it is the one that the readers drew on.

    The slices are those of the database, upwards in z; files at other positions are left out. Of several files at one
    position the one with the lowest InstanceNumber is used, which is pylidc's rule.

    Args:
        folder: the folder of the series.
        scan: the scan.

    Returns:
        HU, int16 ``[rows, columns, slices]``, the axes of ``scan.clusters`` and of ``pylidc.Scan.to_volume()``.

    Raises:
        CaseError: when a file cannot be read, lacks a tag, is of another series, or has another pixel spacing than the
            database, slices are missing or differ in size, or a reading lies outside the volume.
    """
    who = f"patient {scan.patient_id}, series {scan.series_instance_uid}"
    slices: dict[int, tuple[float, str]] = {}  # slice to the InstanceNumber and name of its file
    sizes = set()
    for file in _dicom_files(folder):
        header = _read(file, who, stop_before_pixels=True)
        if header.get("SeriesInstanceUID") != scan.series_instance_uid:
            raise CaseError(f"{who}: {file} is of the series {header.get('SeriesInstanceUID')}.")
        if absent := [tag for tag in _TAGS if header.get(tag) is None]:
            raise CaseError(f"{who}: {file} has no {', '.join(absent)}.")
        z = float(header.ImagePositionPatient[2])
        k = int(np.abs(scan.slice_positions - z).argmin())
        if abs(scan.slice_positions[k] - z) > _POSITION_TOLERANCE:
            continue
        if np.abs(np.array(header.PixelSpacing, dtype=float) - scan.pixel_spacing).max() > _SPACING_TOLERANCE:
            raise CaseError(
                f"{who}: {file} has pixels of {[float(value) for value in header.PixelSpacing]} mm, "
                f"but the database {scan.pixel_spacing} mm."
            )
        sizes.add((int(header.Rows), int(header.Columns)))
        slices[k] = min(slices.get(k, (np.inf, "")), (float(header.get("InstanceNumber") or 0), file))
    if missing := [z for k, z in enumerate(scan.slice_positions.tolist()) if k not in slices]:
        raise CaseError(
            f"{who}: {len(missing)} of {len(scan.slice_positions)} slices are missing in {folder}, "
            f"the lowest at z = {missing[0]:g} mm; download the series again."
        )
    if len(sizes) > 1:
        raise CaseError(f"{who}: slices differ in size, {sorted(sizes)} rows and columns.")
    volume = np.empty((*sizes.pop(), len(slices)), dtype=np.int16)
    _check_readings(scan, volume.shape, who)
    for k, (_, file) in slices.items():
        volume[..., k] = _hounsfield(file, who)
    return volume


def _check_readings(scan: LIDCScan, shape: Sequence[int], who: str) -> None:
    for cluster in scan.clusters:
        for reading in cluster:
            end = reading.origin + reading.mask.shape
            if (reading.origin < 0).any() or (end > shape).any():
                raise CaseError(
                    f"{who}: reading {reading.id} spans the voxels {reading.origin.tolist()} to "
                    f"{(end - 1).tolist()}, outside the volume of {tuple(shape)}."
                )


def _dicom_files(folder: str | os.PathLike) -> list[str]:
    names = sorted(entry.name for entry in os.scandir(str(folder)) if entry.is_file())
    return [str(Path(folder, name)) for name in names if name.lower().endswith(".dcm") and not name.startswith(".")]


def _read(file: str, who: str, **options: Any) -> Any:
    try:
        return pydicom.dcmread(file, **options)
    except (OSError, EOFError, pydicom.errors.InvalidDicomError) as error:
        raise CaseError(f"{who}: {file} cannot be read as DICOM ({error}); download it again.") from None


def _hounsfield(file: str, who: str) -> np.ndarray:
    header = _read(file, who)
    try:
        stored = header.pixel_array
    except (AttributeError, ValueError, RuntimeError) as error:  # no pixels, too few, or a missing codec
        raise CaseError(f"{who}: the pixels of {file} cannot be read ({error}).") from None
    values = stored * float(header.get("RescaleSlope", 1)) + float(header.get("RescaleIntercept", 0))
    return values.round().clip(-32768, 32767).astype(np.int16)
