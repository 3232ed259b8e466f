# SPDX-License-Identifier: Apache-2.0
"""A folder of simulated brains, made on first use."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..layouts import BRATS_MODALITIES
from .brain import SIMULATION, simulate_brain
from .cases import make_cases, save_voxels


def simulated_brain_folder(
    folder: str | os.PathLike, num_patients: int, spatial_size: Sequence[int], seed: int = 0, num_raters: int = 4
) -> str:
    """
    Make a folder of simulated patients as NIfTI, unless it is there already.

    Patient ``simulated_000`` has ``flair``, ``t1``, ``t1c`` and ``t2`` (float32) and ``rater00``, ``rater01``, ...
    (uint8), all ``.nii.gz`` with voxels of 1 mm. ``truth.json`` holds the ``parameters`` and per patient the
    probabilities, sigma, and the seed with which :py:func:`simulate_brain` gives the whole truth again.

    The folder appears whole or not at all. Of several processes that ask for it at once, such as the ranks of
    torchrun, one makes it while the others wait.

    Args:
        folder: where to make it.
        num_patients: number of patients.
        spatial_size: size of the volumes in voxels, 2 or 3 axes.
        seed: seed of the whole folder; a patient does not depend on ``num_patients``.
        num_raters: number of readings of each.

    Returns:
        The path of the folder.

    Raises:
        ValueError: when ``num_patients`` is less than 1, or another argument is refused by :py:func:`simulate_brain`.
        FileExistsError: when the folder was made with other parameters, or holds something else; it is left alone.
    """
    parameters = {
        "simulation": SIMULATION,
        "num_patients": num_patients,
        "spatial_size": list(spatial_size),
        "seed": seed,
        "num_raters": num_raters,
    }

    def make_case(case: Path, case_seed: int) -> dict[str, Any]:
        brain = simulate_brain(spatial_size, case_seed, num_raters)
        files = dict(zip(BRATS_MODALITIES, brain.image.numpy(), strict=True))
        files |= {f"rater{rater:02d}": label for rater, label in enumerate(brain.label.numpy())}
        for file, voxels in files.items():
            save_voxels(case / f"{file}.nii.gz", voxels, np.eye(4))
        return {
            "sigma": brain.sigma,
            "core_probability": brain.core_probability,
            "rim_probability": brain.rim_probability,
        }

    return make_cases(folder, parameters, make_case)
