# SPDX-License-Identifier: Apache-2.0
"""The CT of LIDC-IDRI, from the DICOM folder as TCIA delivers it."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.utils import optional_import

from monai_stochseg.data.case import CaseError
from monai_stochseg.data.files import walk_folders

from .database import LIDCScan

pydicom, _ = optional_import("pydicom")  # comes with pylidc

_AIR = -1024  # HU
_POSITION_TOLERANCE = 0.01  # mm; slices lie at least 0.4 mm apart
_SPACING_TOLERANCE = 1e-3  # mm
_SHIFT = 0.1  # mm; what the rounding of positions makes of it
_TILT = math.radians(0.5)  # shifts the slices of a nodule of 30 mm by a quarter of a millimetre


def find_lidc_series(dicom_dir: str | os.PathLike) -> dict[str, str]:
    """
    Find the series of a DICOM folder by one header of each folder, so that the folders' names do not matter.

    A folder with DICOM files is one series, as in all of TCIA's layouts
    (``LIDC-IDRI-0003/<study>/<series>/000001.dcm``). A file is one whose name ends with ``.dcm``, or that begins as
    DICOM files do, whatever its name. Hidden files and folders are left out. Links are followed; a folder that
    several links lead to counts once.

    Args:
        dicom_dir: the folder of all patients, or any above or below it.

    Returns:
        the folder of each SeriesInstanceUID.

    Raises:
        CaseError: when ``dicom_dir`` is not a folder, a file is not DICOM or says no series, or a series is found
            twice.
    """
    if not Path(dicom_dir).is_dir():
        raise CaseError(f"dicom_dir: there is no folder {dicom_dir}.")
    series: dict[str, str] = {}
    seen: set[str] = set()
    for folder, _ in walk_folders(str(dicom_dir)):
        real = os.path.realpath(folder)
        if real in seen:  # reached by another link too
            continue
        seen.add(real)
        if files := _dicom_files(folder):
            uid = _read(files[0], "dicom_dir", specific_tags=["SeriesInstanceUID"]).get("SeriesInstanceUID")
            if not uid:
                raise CaseError(f"dicom_dir: {files[0]} has no SeriesInstanceUID; download it again.")
            if uid in series:
                raise CaseError(f"dicom_dir: series {uid} is found twice, in {series[uid]} and {folder}; remove one.")
            series[str(uid)] = folder
    return series


def read_lidc_volume(folder: str | os.PathLike, scan: LIDCScan) -> np.ndarray:
    """
    Read a scan's CT and check that it is the one that the readers drew on.

    The slices are those of the database, upwards in z; files at other positions are left out. Of several files at one
    position the one with the lowest InstanceNumber is used, which is pylidc's rule. Padding (PixelPaddingValue) is
    air, -1024 HU, or less where it is stored so.

    Args:
        folder: the folder of the series.
        scan: the scan.

    Returns:
        HU, int16 ``[rows, columns, slices]``, the axes of ``scan.clusters`` and of ``pylidc.Scan.to_volume()``.

    Raises:
        CaseError: when a file cannot be read, lacks a tag or has one that is not finite, is of another series, or has
            another pixel spacing than the database, a slice is not axial or the gantry was tilted, slices are missing
            or differ in size, or a reading lies outside the volume.
    """
    who = f"patient {scan.patient_id}, series {scan.series_instance_uid}"
    slices: dict[int, tuple[float, str]] = {}  # slice to the InstanceNumber and name of its file
    sizes: set[tuple[int, ...]] = set()
    positions: dict[str, np.ndarray] = {}
    for file in _dicom_files(folder):
        header = _read(file, who, stop_before_pixels=True)
        if header.get("SeriesInstanceUID") != scan.series_instance_uid:
            raise CaseError(f"{who}: {file} is of the series {header.get('SeriesInstanceUID')}.")
        position = _values(header, "ImagePositionPatient", 3, file, who)
        k = int(np.abs(scan.slice_positions - position[2]).argmin())
        if abs(scan.slice_positions[k] - position[2]) > _POSITION_TOLERANCE:
            continue
        pixel_spacing = _values(header, "PixelSpacing", 2, file, who)
        if np.abs(np.array(pixel_spacing) - scan.pixel_spacing).max() > _SPACING_TOLERANCE:
            raise CaseError(
                f"{who}: {file} has pixels of {pixel_spacing} mm, but the database {scan.pixel_spacing} mm."
            )
        _check_axial(header, file, who)
        sizes.add(tuple(int(_values(header, tag, 1, file, who)[0]) for tag in ("Rows", "Columns")))
        number = _values(header, "InstanceNumber", 1, file, who, default=0)[0]
        slices[k] = min(slices.get(k, (np.inf, "")), (number, file))
        positions[file] = np.array(position)
    if missing := [z for k, z in enumerate(scan.slice_positions.tolist()) if k not in slices]:
        raise CaseError(
            f"{who}: {len(missing)} of {len(scan.slice_positions)} slices are missing in {folder}, "
            f"the lowest at z = {missing[0]:g} mm; download the series again."
        )
    if len(sizes) > 1:
        raise CaseError(f"{who}: slices differ in size, {sorted(sizes)} rows and columns.")
    _check_upright([positions[slices[k][1]] for k in sorted(slices)], who)
    volume = np.empty((*sizes.pop(), len(slices)), dtype=np.int16)
    _check_readings(scan, volume.shape, who)
    for k, (_, file) in slices.items():
        volume[..., k] = _hounsfield(file, who, volume.shape[:2])
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


def _values(header: Any, tag: str, count: int, file: str, who: str, default: float | None = None) -> list[float]:
    """The finite numbers of a tag; ``default`` where it is absent or empty, and may be."""
    try:
        value = header.get(tag)
        numbers = [] if value is None or value == "" else np.array(value, dtype=float).ravel().tolist()
    except (TypeError, ValueError, ArithmeticError) as error:
        raise CaseError(f"{who}: {file} has a {tag} that cannot be read ({error}); download it again.") from None
    if not numbers and default is None:
        raise CaseError(f"{who}: {file} has no {tag}; download the series again.")
    numbers = numbers or [default] * count
    if len(numbers) != count or not np.isfinite(numbers).all():
        raise CaseError(
            f"{who}: {file} has the {tag} {numbers}, but {count} finite {'numbers are' if count > 1 else 'number is'} "
            "needed; download it again."
        )
    return numbers


def _check_axial(header: Any, file: str, who: str) -> None:
    """Refuse a slice that is not axial, or whose gantry was tilted: the database has one z for all of its pixels."""
    directions = np.reshape(_values(header, "ImageOrientationPatient", 6, file, who), (2, 3))
    tilt = math.radians(_values(header, "GantryDetectorTilt", 1, file, who, default=0)[0])
    if np.abs(directions[:, 2]).max() > math.sin(_TILT) or abs(tilt) > _TILT:
        raise CaseError(
            f"{who}: {file} is no upright axial slice, with the orientation {directions.ravel().tolist()} and a gantry "
            f"tilt of {math.degrees(tilt):g} degrees; leave this scan out, or resample it to axial slices."
        )


def _check_upright(positions: Sequence[np.ndarray], who: str) -> None:
    """Refuse slices that lie aside of each other, as those of a tilted gantry do; ``positions`` run upwards."""
    shift = np.abs(np.stack(positions)[:, :2] - positions[0][:2]).max(1)
    allowed = _SHIFT + math.tan(_TILT) * (np.stack(positions)[:, 2] - positions[0][2])
    if (shift > allowed).any():
        raise CaseError(
            f"{who}: slices lie up to {shift.max():.1f} mm aside of the lowest one, as with a tilted gantry; leave "
            "this scan out, or resample it to axial slices."
        )


def _dicom_files(folder: str | os.PathLike) -> list[str]:
    """Files that are DICOM by their name or, where that does not say so, by how they begin."""
    files = sorted(entry.path for entry in os.scandir(str(folder)) if entry.is_file() and entry.name[0] != ".")
    return [file for file in files if file.lower().endswith(".dcm") or _begins_as_dicom(file)]


def _begins_as_dicom(file: str) -> bool:
    if Path(file).name == "DICOMDIR":  # a list of files
        return False
    with Path(file).open("rb") as opened:
        return opened.read(132)[128:] == b"DICM"


def _read(file: str, who: str, **options: Any) -> Any:
    try:
        return pydicom.dcmread(file, **options)
    except Exception as error:  # of pydicom or the file system: a damaged file can fail in any way
        raise CaseError(f"{who}: {file} cannot be read as DICOM ({error}); download it again.") from None


def _hounsfield(file: str, who: str, size: tuple[int, ...]) -> np.ndarray:
    header = _read(file, who)
    try:
        stored = header.pixel_array
    except Exception as error:  # no pixels, too few, or a missing codec
        raise CaseError(f"{who}: the pixels of {file} cannot be read ({error}); download it again.") from None
    if stored.shape != size:
        raise CaseError(f"{who}: {file} has pixels of the shape {stored.shape}, but the volume {size}.")
    slope, intercept = (_values(header, tag, 1, file, who)[0] for tag in ("RescaleSlope", "RescaleIntercept"))
    if slope == 0:
        raise CaseError(f"{who}: {file} has a RescaleSlope of 0; download it again.")
    values = stored * slope + intercept
    padding = _padding(header, stored, file, who)
    values[padding] = np.minimum(values[padding], _AIR)
    return values.round().clip(-32768, 32767).astype(np.int16)


def _padding(header: Any, stored: np.ndarray, file: str, who: str) -> np.ndarray:
    """Where the scanner has filled up the slice beyond its field of view, bool ``[rows, columns]``."""
    if header.get("PixelPaddingValue") is None:
        return np.zeros(stored.shape, dtype=bool)
    first = _values(header, "PixelPaddingValue", 1, file, who)[0]
    last = _values(header, "PixelPaddingRangeLimit", 1, file, who, default=first)[0]
    # the tag may be signed where the pixels are not, and the other way round
    low, high = sorted(np.array([first, last]).astype(np.int64).astype(stored.dtype).tolist())
    return (stored >= low) & (stored <= high)
