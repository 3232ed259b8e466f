# SPDX-License-Identifier: Apache-2.0
"""Every method on every task: train, resume, evaluate and infer by the overlays of ``bundles/tasks``."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from bundle_runs import first_cause, make_workflow, run_workflow, table
from PIL import Image
from tiny import METHODS, RUN, TASKS

from monai_stochseg.tasks import Task

SOFT_TASKS = ("brats_whole", "kits", "lidc", "lidc_3d", "prostatex")
SEVERAL_RATERS = ("brats_whole", "lidc", "lidc_3d")


def asked_of(method: str) -> list[str]:
    """The tasks that a method can answer."""
    if not METHODS[method].soft:
        return list(TASKS)
    return [task for task in SOFT_TASKS if method != "msvls" or task in SEVERAL_RATERS]


PAIRS = [(method, task) for method in METHODS for task in asked_of(method)]
# In the default run each method is asked once, and the tasks take turns.
DEFAULT = [(method, asked_of(method)[i % len(asked_of(method))]) for i, method in enumerate(METHODS)]


def test_the_default_run_asks_every_method_and_every_task() -> None:
    assert {method for method, _ in DEFAULT} == set(METHODS)
    assert {task for _, task in DEFAULT} == set(TASKS)


@pytest.mark.parametrize(("method", "task"), DEFAULT)
def test_train_resume_evaluate_and_infer(folders, make_output, method, task) -> None:
    train_resume_evaluate_and_infer(folders, make_output, method, task)


@pytest.mark.matrix
@pytest.mark.parametrize(("method", "task"), PAIRS)
def test_every_pair(folders, make_output, method, task) -> None:
    train_resume_evaluate_and_infer(folders, make_output, method, task)


def train_resume_evaluate_and_infer(
    folders: dict[str, str], make_output: Callable[[], str], method: str, task: str
) -> None:
    bundle, ids, soft = METHODS[method]
    output = Path(make_output())
    options = {**RUN, **ids, **TASKS[task], "dataset_dir": folders[task], "output_dir": str(output)}
    options["val_interval"] = 5  # one validation, before training: figures of the best epochs take seconds
    first = 2 if bundle == "car_lidc" else 1  # of its two stages
    overlay = f"tasks/{task}"
    run_workflow(bundle, overlay, **{**options, "max_epochs": first})
    workflow = run_workflow(bundle, overlay, **{**options, "max_epochs": first + 1, "resume": True})
    options["checkpoint"] = str(output / "model_last.pt")
    assert torch.load(output / "model_last.pt", weights_only=True)["trainer"]["iteration"] == 2
    asked: Task = workflow.parser.get_parsed_content("task")
    cases = asked.cases("test")

    workflow = run_workflow(bundle, overlay, "evaluate", **options)
    rows = table(output / "evaluation_test.csv")
    assert len(rows) == len(cases) + 2  # the mean, and its standard error or of single answers the standard deviation
    judged = [float(value) for name, value in rows["mean"].items() if name != "case"]
    assert judged
    assert not all(math.isnan(value) for value in judged)
    figure = "reliability_test.png" if soft else "samples_test.png"
    assert (output / figure).read_bytes()[:4] == b"\x89PNG"

    infer(bundle, overlay, asked, output, options, samples=0 if soft else 3)


def infer(bundle: str, overlay: str, task: Task, output: Path, options: dict[str, Any], samples: int) -> None:
    """Predictions lie in the grid of the image."""
    run_workflow(bundle, overlay, base="inference", **options, max_cases=1)
    assert len(table(output / "predictions" / "volumes.csv")) == 1
    if (pictures := sorted((output / "predictions").glob("*.png"))) or task.name == "Cityscapes":
        kinds = {"mode": 1, "entropy": 1, "samples": samples}
        for kind, number in kinds.items():
            found = [Image.open(file) for file in pictures if f"_{kind}" in file.name]
            assert [picture.size for picture in found] == [tuple(reversed(grid(task)[0][:2]))] * number
        return
    (mode,) = (output / "predictions").glob("*_mode.nii.gz")
    shape, affine = grid(task)
    kinds = {"mode": np.uint8, "entropy": np.float32, **({"samples": np.uint8} if samples else {})}
    for kind, dtype in kinds.items():
        image = nib.load(str(mode).replace("mode", kind))
        last = (samples,) if kind == "samples" else () if task.spatial_dims == 3 else (1,)
        assert image.shape == (*shape, *last)
        assert image.get_data_dtype() == dtype
        if affine is not None:
            np.testing.assert_allclose(image.affine, affine, atol=1e-4)
    assert np.asarray(nib.load(mode).dataobj).max() < task.num_classes


def grid(task: Task) -> tuple[tuple[int, ...], np.ndarray | None]:
    """Shape and affine of the first image."""
    case = task.cases("all", require_label=False)[0]
    image = case.get("image", "")
    file = image[0] if isinstance(image, list) else image
    if str(file).endswith(".nii.gz"):
        image = nib.load(file)
        return image.shape, image.affine
    size = getattr(task, "spatial_size", None) or {2: (16, 16), 3: (12, 12, 12)}[task.spatial_dims]
    return (*size, *([1] if task.spatial_dims == 2 else [])), None


@pytest.mark.parametrize("task", ["brats", "cityscapes"])
@pytest.mark.parametrize("method", ["onehot", "ls", "svls", "msvls"])
def test_a_soft_target_has_no_void_voxels(folders, make_output, method, task) -> None:
    bundle, ids, _ = METHODS[method]
    options = {**RUN, **ids, **TASKS[task], "dataset_dir": folders[task], "output_dir": make_output()}
    with pytest.raises(ValueError, match="has void voxels, labelled 255, that"), first_cause():
        make_workflow(bundle, f"tasks/{task}", **options).parser.get_parsed_content("train#trainer")


@pytest.mark.parametrize("task", ["kits", "prostatex"])
@pytest.mark.parametrize("target", ["all", "moh", "msvls"])
def test_a_target_of_several_raters_needs_them(folders, make_output, target, task) -> None:
    options = {**RUN, **METHODS["msvls"].ids, **TASKS[task], "dataset_dir": folders[task], "target": target}
    with pytest.raises(ValueError, match=f"target '{target}' needs several raters, but .* have 1 each"), first_cause():
        run_workflow("msvls_lidc", f"tasks/{task}", **options, output_dir=make_output())
