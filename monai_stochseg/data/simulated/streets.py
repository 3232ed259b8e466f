# SPDX-License-Identifier: Apache-2.0
"""Simulated street scenes with the classes of Cityscapes, made on first use: a task that needs no download."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from ..folders import make_once, new_folder, other_arguments
from .street_scene import street_scene

# Changes whenever the same seed gives other scenes.
SIMULATION = "streets 1"
MARK = "simulated.json"

# Part and city of five scenes in a row.
_PLACES = (
    ("train", "simulated-train"),
    ("train", "simulated-validation"),
    ("val", "simulated-test"),
    ("train", "simulated-train"),
    ("train", "simulated-train"),
)


def simulate_street(size: Sequence[int] = (128, 256), seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """
    Simulate a scene as a car's camera sees it: a street in perspective between houses, with what stands, walks and
    drives there. Road, sidewalk, car, person and vegetation, the classes that are switched, are in nearly every scene.

    The label is exact; only :py:class:`monai_stochseg.transforms.RandClassSwitchd` makes it ambiguous, so that the
    probabilities are known.

    Args:
        size: H and W in pixels.
        seed: of the scene.

    Returns:
        the picture, ``[H, W, 3]`` uint8, and the train ids, ``[H, W]`` uint8, 255 for void.

    Raises:
        ValueError: when ``size`` is not two numbers of at least 32.
    """
    if len(size) != 2 or min(size) < 32:
        raise ValueError(f"size must be (H, W) of at least 32 pixels each, got {list(size)}.")
    return street_scene((size[0], size[1]), np.random.default_rng(seed))


def simulated_cityscapes_folder(
    folder: str | os.PathLike, num_images: int = 400, size: Sequence[int] = (128, 256), seed: int = 0
) -> str:
    """
    Make a folder of simulated scenes in the layout of Cityscapes, unless it exists already;
    :py:func:`monai_stochseg.data.cityscapes_datalist` lists it as it lists the real one.

    The cities are ``simulated-train``, ``simulated-validation`` and ``simulated-test``: of five scenes in a row the
    second is of validation and the third of test. ``simulated.json`` holds the ``parameters``.

    The folder appears whole or not at all. Of several processes that ask for it at once, such as the ranks of
    torchrun, one makes it while the others wait.

    Args:
        folder: where to make it.
        num_images: number of scenes; at least 3, so that no part is empty.
        size: H and W of their pictures in pixels.
        seed: of the whole folder; a scene and its part do not depend on ``num_images``.

    Returns:
        The path of the folder.

    Raises:
        ValueError: when ``num_images`` or ``size`` is too small.
        FileExistsError: when the folder was made with other parameters, or holds something else, such as the real
            Cityscapes; it is left alone.
    """
    if num_images < 3:
        raise ValueError(f"num_images must be at least 3, one of each part, got {num_images}.")
    parameters: dict[str, Any] = {
        "simulation": SIMULATION,
        "num_images": num_images,
        "size": list(size),
        "seed": seed,
    }

    def make(path: Path) -> None:
        with new_folder(path) as made:
            for index in tqdm(range(num_images), desc="Simulating streets", disable=None):
                _write_scene(made, index, parameters)
            (made / MARK).write_text(json.dumps({"parameters": parameters}, indent=2) + "\n", encoding="utf-8")

    return make_once(folder, lambda path: _reason_to_make(path, parameters), make)


def _write_scene(folder: Path, index: int, parameters: dict[str, Any]) -> None:
    seed = int(np.random.SeedSequence([parameters["seed"], index]).generate_state(1)[0])
    picture, label = simulate_street(parameters["size"], seed)
    part, city = _PLACES[index % len(_PLACES)]
    name = f"{city}_{index:06d}_000019"
    for kind, ending, pixels in (("leftImg8bit", "leftImg8bit", picture), ("gtFine", "gtFine_labelTrainIds", label)):
        file = folder / kind / part / city / f"{name}_{ending}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(file, compress_level=1)


def _reason_to_make(folder: Path, parameters: dict[str, Any]) -> str | None:
    """Why the folder has to be made, an empty string where there is no folder yet; None where it can be used."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return ""
    try:
        found = json.loads(Path(folder, MARK).read_text(encoding="utf-8"))["parameters"]
    except (OSError, ValueError, KeyError, TypeError):
        raise FileExistsError(f"{folder} exists and holds no simulated streets; name another folder.") from None
    if found != parameters:
        raise other_arguments(folder, found, parameters)
    return None
