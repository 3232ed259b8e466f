# SPDX-License-Identifier: Apache-2.0
"""A folder of simulated brains, made on first use."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nibabel as nib
import numpy as np
from filelock import FileLock
from tqdm import tqdm

from .layouts import MODALITIES
from .simulated_brain import SIMULATION, simulate_brain

logger = logging.getLogger(__name__)

TRUTH = "truth.json"


def simulated_brain_folder(
    folder: str | os.PathLike, num_patients: int, spatial_size: Sequence[int], seed: int = 0, num_raters: int = 4
) -> str:
    """
    Make a folder of simulated patients as NIfTI, unless it is there already.

    Patient `simulated_000` has `flair`, `t1`, `t1c` and `t2` (float32) and `rater00`, `rater01`, ... (uint8), all
    `.nii.gz` with voxels of 1 mm. `truth.json` holds the `parameters` and per patient the probabilities, sigma, and
    the seed with which :py:func:`simulate_brain` gives the whole truth again.

    The folder appears whole or not at all. Of several processes that ask for it at once, such as the ranks of
    torchrun, one makes it while the others wait. It is made anew if its parameters are others.

    Args:
        folder: where to make it.
        num_patients: number of patients.
        spatial_size: size of their volumes in voxels, 2 or 3 axes.
        seed: seed of the whole folder; a patient does not depend on `num_patients`.
        num_raters: number of readings of each.

    Returns:
        The path of the folder.

    Raises:
        ValueError: When `num_patients` is less than 1, or another argument is refused by :py:func:`simulate_brain`.
        FileExistsError: When the folder holds something else, which is left alone.

    """
    if num_patients < 1:
        raise ValueError(f"num_patients must be at least 1, got {num_patients}.")
    folder = Path(folder).expanduser().absolute()
    parameters = {
        "simulation": SIMULATION,
        "num_patients": num_patients,
        "spatial_size": list(spatial_size),
        "seed": seed,
        "num_raters": num_raters,
    }
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
            _make(made, parameters)
            if found is not None:
                folder.replace(Path(temporary, "old"))  # no moment at which half of a folder can be seen
            made.replace(folder)
    return str(folder)


def _parameters(folder: Path) -> dict[str, Any] | None:
    """Parameters a folder was made with, None where there is no folder or an empty one."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return None
    try:
        return json.loads(Path(folder, TRUTH).read_text(encoding="utf-8"))["parameters"]
    except (OSError, ValueError, KeyError):
        raise FileExistsError(f"{folder} is there and holds no simulated patients; name another folder.") from None


def _make(folder: Path, parameters: dict[str, Any]) -> None:
    patients = {}
    for index in tqdm(range(parameters["num_patients"]), desc="Simulating patients", disable=None):
        name = f"simulated_{index:03d}"
        seed = int(np.random.SeedSequence([parameters["seed"], index]).generate_state(1)[0])
        brain = simulate_brain(parameters["spatial_size"], seed, parameters["num_raters"])
        Path(folder, name).mkdir(parents=True)
        files = dict(zip(MODALITIES, brain.image.numpy(), strict=True))
        files |= {f"rater{rater:02d}": label for rater, label in enumerate(brain.label.numpy())}
        for file, voxels in files.items():
            image = nib.Nifti1Image(voxels, np.eye(4))
            image.header.set_xyzt_units("mm")
            nib.save(image, Path(folder, name, f"{file}.nii.gz"))
        patients[name] = {
            "seed": seed,
            "sigma": brain.sigma,
            "core_probability": brain.core_probability,
            "rim_probability": brain.rim_probability,
        }
    truth = {"parameters": parameters, "patients": patients}
    Path(folder, TRUTH).write_text(json.dumps(truth, indent=2) + "\n", encoding="utf-8")
