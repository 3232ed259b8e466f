# SPDX-License-Identifier: Apache-2.0
"""A folder of simulated patients, made on first use."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nibabel as nib
import numpy as np
from filelock import FileLock
from tqdm import tqdm

logger = logging.getLogger(__name__)

TRUTH = "truth.json"


def make_cases(
    folder: str | os.PathLike, parameters: Mapping[str, Any], make_case: Callable[[Path, int], dict[str, Any]]
) -> str:
    """
    Make a folder of simulated patients, unless it is there already.

    The folder appears whole or not at all. Of several processes that ask for it at once, such as the ranks of
    torchrun, one makes it while the others wait. It is made anew if its parameters are others. `truth.json` holds the
    `parameters` and, per patient, the seed and what `make_case` returns.

    Args:
        folder: where to make it.
        parameters: what the folder is a function of, as JSON has it; with `num_patients` and `seed`, from which and
            from its own number alone each patient's seed comes.
        make_case: writes the files of one patient to a folder, from a seed, and returns what is to be recorded.

    Returns:
        The path of the folder.

    Raises:
        ValueError: When `num_patients` is less than 1.
        FileExistsError: When the folder holds something else, which is left alone.

    """
    if parameters["num_patients"] < 1:
        raise ValueError(f"num_patients must be at least 1, got {parameters['num_patients']}.")
    folder = Path(folder).expanduser().absolute()
    if _parameters(folder) == parameters:
        return str(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{folder.name}.lock")):
        found = _parameters(folder)
        if found == parameters:  # another process has made it meanwhile
            return str(folder)
        if found is not None:
            logger.warning("%s was simulated with %s; it is made anew with %s.", folder, found, parameters)
        with TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as temporary:
            made = Path(temporary, "made")
            _make(made, parameters, make_case)
            if found is not None:
                folder.replace(Path(temporary, "old"))  # no moment at which half of a folder can be seen
            made.replace(folder)
    return str(folder)


def save_voxels(file: Path, voxels: np.ndarray, affine: np.ndarray) -> None:
    """
    Write a NIfTI file in mm.

    Args:
        file: its path.
        voxels: `[*S]`.
        affine: 4x4, voxels to mm.

    """
    image = nib.Nifti1Image(voxels, affine)
    image.header.set_xyzt_units("mm")
    nib.save(image, file)


def _parameters(folder: Path) -> dict[str, Any] | None:
    """Parameters a folder was made with, None where there is no folder or an empty one."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return None
    try:
        return json.loads(Path(folder, TRUTH).read_text(encoding="utf-8"))["parameters"]
    except (OSError, ValueError, KeyError):
        raise FileExistsError(f"{folder} is there and holds no simulated patients; name another folder.") from None


def _make(folder: Path, parameters: Mapping[str, Any], make_case: Callable[[Path, int], dict[str, Any]]) -> None:
    patients = {}
    for index in tqdm(range(parameters["num_patients"]), desc="Simulating patients", disable=None):
        name = f"simulated_{index:03d}"
        seed = int(np.random.SeedSequence([parameters["seed"], index]).generate_state(1)[0])
        Path(folder, name).mkdir(parents=True)
        patients[name] = {"seed": seed, **make_case(Path(folder, name), seed)}
    truth = {"parameters": parameters, "patients": patients}
    Path(folder, TRUTH).write_text(json.dumps(truth, indent=2) + "\n", encoding="utf-8")
