# SPDX-License-Identifier: Apache-2.0
"""What is compared on each task: its data, its sizes and its metrics."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from monai_stochseg.data import simulated_brain_folder, simulated_cityscapes_folder
from monai_stochseg.data.lidc import simulated_lidc_folder


@dataclass(frozen=True)
class Setting:
    """
    A task of the benchmark.

    Args:
        overlay: name of the configuration in ``bundles/tasks`` that a bundle of another task needs, or the path of a
            user's plan.
        data: makes the simulated data in a folder, and returns its path.
        small: ids of the setting that takes minutes on two CPU cores: the same number of steps for each method.
        metrics: names, see :py:meth:`monai_stochseg.tasks.Task.metric`.
        full_data: makes the data of the papers' sizes; None where there is no such setting.
        first: metrics that judge only the first samples, by name.
    """

    overlay: str
    data: Callable[[Path], str]
    small: Mapping[str, Any]
    metrics: tuple[str, ...]
    full_data: Callable[[Path], str] | None = None
    first: Mapping[str, int] = field(default_factory=lambda: {"ged": 16, "hm_iou": 16, "ambiguity": 16})


_SETS = ("ged", "ged_curve", "hm_iou", "diversity", "rater_diversity")
_NETWORK = {"channels": [8, 16, 32, 64], "norm": "BATCH"}

SETTINGS: Mapping[str, Setting] = {
    "lidc": Setting(
        overlay="lidc",
        data=partial(simulated_lidc_folder, num_patients=300, spatial_size=48, spacing=1.0, slices_per_nodule=1),
        full_data=partial(
            simulated_lidc_folder, num_patients=None, spatial_size=180, spacing=0.5, slices_per_nodule=None
        ),
        small={**_NETWORK, "max_epochs": 10, "val_interval": 5, "images_per_epoch": 640, "batch_size": 16},
        metrics=(
            *_SETS,
            *("dice", "dice_nonempty", "ece", "ambiguity", "diversity_correlation", "empty_correlation"),
        ),
    ),
    "brats": Setting(
        overlay="brats_whole",
        data=partial(simulated_brain_folder, num_patients=80, spatial_size=(20, 20, 20)),
        small={
            **{"channels": [8, 16, 32], "norm": "BATCH"},
            **{"max_epochs": 6, "val_interval": 6, "images_per_epoch": 80, "batch_size": 2},
            "roi_size": [20, 20, 20],
            "split_fractions": [0.81, 0.05, 0.14],
            "task#seed": 0,  # one split for all seeds
        },
        metrics=(*_SETS, "dice", "ece", "diversity_correlation"),
    ),
    "cityscapes": Setting(
        overlay="cityscapes",
        data=partial(simulated_cityscapes_folder, num_images=120, size=(48, 96)),
        small={
            **_NETWORK,
            **{"max_epochs": 8, "val_interval": 4, "images_per_epoch": 160, "batch_size": 4},
            **{"spatial_size": [48, 96], "crop_size": [36, 36]},
        },
        metrics=(*_SETS, "dice", "mode_frequency", "flip_ratio"),
    ),
}


class BenchmarkError(Exception):
    """What the command says in one line: a name that it does not know, a file that is wrong, methods that failed."""


def find_setting(task: str) -> Setting:
    """
    The setting of a task.

    Args:
        task: one of ``SETTINGS``, or the path of a plan, which ``python -m monai_stochseg plan`` writes.

    Raises:
        BenchmarkError: if there is no such task, or the file is no plan.
    """
    if task in SETTINGS:
        return SETTINGS[task]
    file = Path(task).expanduser().absolute()
    if file.suffix != ".json":
        raise BenchmarkError(f"task must be one of {', '.join(SETTINGS)}, or a plan.json, got {task!r}.")
    try:
        plan = json.loads(file.read_text(encoding="utf-8"))
        dataset_dir = str(plan["dataset_dir"])
        plan["task"]["_target_"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BenchmarkError(f"task: {file} is no plan ({type(error).__name__}: {error}).") from None
    return Setting(overlay=str(file), data=lambda folder: dataset_dir, small={}, metrics=(*_SETS, "dice", "ece"))
