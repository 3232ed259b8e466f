# SPDX-License-Identifier: Apache-2.0
"""A folder of simulated patients, made on first use."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from tqdm import tqdm

from ..folders import make_once, new_folder, other_arguments

TRUTH = "truth.json"


def make_cases(
    folder: str | os.PathLike, parameters: Mapping[str, Any], make_case: Callable[[Path, int], dict[str, Any]]
) -> str:
    """
    Make a folder of simulated patients, unless it is there already.

    The folder appears whole or not at all. Of several processes that ask for it at once, such as the ranks of
    torchrun, one makes it while the others wait. ``truth.json`` holds the ``parameters`` and, per patient, the seed and
    what ``make_case`` returns.

    Args:
        folder: where to make it.
        parameters: everything that determines the folder, in types of JSON; it has ``num_patients`` and ``seed``. A
            patient's seed depends on ``seed`` and the patient's number alone.
        make_case: writes the files of one patient to a folder, from a seed, and returns what is to be recorded.

    Returns:
        The path of the folder.

    Raises:
        ValueError: when ``num_patients`` is less than 1.
        FileExistsError: when the folder was made with other parameters, or holds something else; it is left alone.
    """
    if parameters["num_patients"] < 1:
        raise ValueError(f"num_patients must be at least 1, got {parameters['num_patients']}.")

    def make(path: Path) -> None:
        with new_folder(path) as made:
            _make(made, parameters, make_case)

    return make_once(folder, lambda path: _reason_to_make(path, parameters), make)


def save_voxels(file: Path, voxels: np.ndarray, affine: np.ndarray) -> None:
    """
    Write a NIfTI file in mm.

    Args:
        file: its path.
        voxels: ``[*S]``.
        affine: 4x4, voxels to mm.
    """
    image = nib.Nifti1Image(voxels, affine)
    image.header.set_xyzt_units("mm")
    nib.save(image, file)


def _reason_to_make(folder: Path, parameters: Mapping[str, Any]) -> str | None:
    """Why a folder has to be made, an empty string where there is no folder yet; None where it can be used."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return ""
    try:
        truth = json.loads(Path(folder, TRUTH).read_text(encoding="utf-8"))
        found = truth["parameters"]
    except (OSError, ValueError, KeyError, TypeError):
        raise FileExistsError(f"{folder} exists and holds no simulated patients; name another folder.") from None
    if found != parameters:
        raise other_arguments(folder, found, parameters)
    return None


def _make(folder: Path, parameters: Mapping[str, Any], make_case: Callable[[Path, int], dict[str, Any]]) -> None:
    patients = {}
    for index in tqdm(range(parameters["num_patients"]), desc="Simulating patients", disable=None):
        name = f"simulated_{index:03d}"
        seed = int(np.random.SeedSequence([parameters["seed"], index]).generate_state(1)[0])
        Path(folder, name).mkdir(parents=True)
        patients[name] = {"seed": seed, **make_case(Path(folder, name), seed)}
    truth = {"parameters": parameters, "patients": patients}
    Path(folder, TRUTH).write_text(json.dumps(truth, indent=2) + "\n", encoding="utf-8")
