# SPDX-License-Identifier: Apache-2.0
"""Folders of predictions as an inference writes them, of maps that are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from monai_stochseg.data.prediction_record import PredictionRecord
from monai_stochseg.transforms.save_raster import picture_of_map

AFFINE = np.array([[-1.0, 0, 0, 10], [0, -2, 0, 20], [0, 0, 3, -5], [0, 0, 0, 1]])
SHAPE = (12, 10, 8)


def maps(shape: tuple[int, ...] = SHAPE) -> dict[str, np.ndarray]:
    """
    Two groups of samples: 0 to 2 have a core (2) in the tumour (1), 3 has none; the tumour of sample 2 is larger. The
    answer is sample 0; reader 1 sees sample 0 and reader 2 nothing.
    """
    samples = np.zeros((4, *shape), np.uint8)
    samples[:, 2:7, 3:8] = 1
    samples[2, 7:9, 3:8] = 1
    samples[:3, 3:5, 4:6] = 2
    readers = np.stack([samples[0], np.zeros(shape, np.uint8)])
    image = np.arange(np.prod(shape), dtype=np.int16).reshape(shape)
    return {"samples": samples, "mode": samples[0], "readers": readers, "image": np.stack([image, 2 * image])}


def record(name: str = "case_1", **changed: Any) -> PredictionRecord:
    given: dict[str, Any] = {
        "name": name,
        "task": "Given",
        "spatial_dims": 3,
        "simulated": False,
        "channel_names": ["flair", "t1"],
        "class_names": ["background", "tumour", "core"],
        "regions": {"whole": [1, 2], "core": [2]},
        "indexing": "xy",
        "ending": "nii.gz",
        "nifti_ending": "nii.gz",
        "num_samples": 4,
        "stacked": True,
        "sample_weights": None,
        "noise_seed": 1,
        "has_image": True,
        "rater_weights": [1.0, 1.0],
        "rater_names": [],
        "maps": ["probability_whole", "entropy", "mutual_information"],
        "unit": "mm",
    }
    return PredictionRecord(**{**given, **changed})


def write_volume(folder: Path, name: str = "case_1", affine: np.ndarray = AFFINE, **changed: Any) -> Path:
    """A case of 3D, with everything that there can be."""
    folder.mkdir(parents=True, exist_ok=True)
    found = maps()
    shares = {"entropy": found["mode"] * np.float32(0.3), "probability_whole": (found["mode"] > 0) * np.float32(0.75)}
    files = {
        "mode": found["mode"],
        "samples": np.moveaxis(found["samples"], 0, -1),
        "readers": np.moveaxis(found["readers"], 0, -1),
        "image": np.moveaxis(found["image"], 0, -1),
        "mutual_information": shares["entropy"] / 2,
        **shares,
    }
    for postfix, values in files.items():
        nib.save(nib.Nifti1Image(values, affine), folder / f"{name}_{postfix}.nii.gz")
    record(name, **changed).write(folder)
    return folder


def write_raster(folder: Path, name: str = "photo", **changed: Any) -> Path:
    """A case of 2D in PNG, rows first, with a colour image."""
    folder.mkdir(parents=True, exist_ok=True)
    found = maps((12, 10))
    picture_of_map(found["mode"]).save(folder / f"{name}_mode.png")
    for number, sample in enumerate(found["samples"]):
        picture_of_map(sample).save(folder / f"{name}_samples_{number:02d}.png")
    colours = np.stack([np.full((12, 10), value, np.int16) for value in (10, 20, 30)], axis=-1)
    colours[0, 0] = 255
    nib.save(nib.Nifti1Image(colours[:, :, None], np.eye(4)), folder / f"{name}_image.nii.gz")
    readers = np.moveaxis(found["readers"], 0, -1)[:, :, None]
    nib.save(nib.Nifti1Image(readers, np.eye(4)), folder / f"{name}_readers.nii.gz")
    options = {"spatial_dims": 2, "indexing": "ij", "ending": "png", "unit": "px", "stacked": True, "maps": []}
    record(name, channel_names=["red", "green", "blue"], **{**options, **changed}).write(folder)
    return folder
