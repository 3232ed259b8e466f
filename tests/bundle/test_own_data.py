# SPDX-License-Identifier: Apache-2.0
"""Every method on a user's own folder, by the plan of it alone: train, resume, evaluate and infer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from bundle_runs import BUNDLES, run_workflow, table
from own_folders import nifti_folder, raster_folder, structures_folder
from tiny import METHODS, RUN

from monai_stochseg.planning import plan

CHANNELS = {"channels": [2, 4], "strides": [2]}
IN_DEFAULT = {("ssn", "raster"), ("mose", "nifti"), ("car", "structures"), ("svls", "nifti"), ("mheads", "raster")}
SMALL = {"raster": [16, 16], "nifti": [8, 8, 8], "structures": [8, 8, 8]}


@pytest.fixture(scope="session")
def plans(tmp_path_factory) -> dict[str, str]:
    """The path of a plan by the name of its folder's layout."""
    made = {}
    for name, make in {"raster": raster_folder, "nifti": nifti_folder, "structures": structures_folder}.items():
        root = make(tmp_path_factory.mktemp("own") / name)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("monai_stochseg.planning.choose.step_seconds", lambda *args: 0.1)
            plan(str(root), progress=False)
        made[name] = str(root / "plan.json")
    return made


def overlays(base: str, plan_file: str, *more: str) -> list[str]:
    return [str(BUNDLES / base), plan_file, *(str(BUNDLES / name) for name in more)]


def pairs() -> list:
    marks = {pair: [] if pair in IN_DEFAULT else [pytest.mark.matrix] for pair in PAIRS}
    return [
        pytest.param(method, folder, id=f"{method}-{folder}", marks=marks[method, folder]) for method, folder in PAIRS
    ]


PAIRS = [(method, folder) for method in METHODS for folder in SMALL]


@pytest.mark.parametrize(("method", "folder"), pairs())
def test_a_method_on_a_folder(plans, make_output, method: str, folder: str) -> None:
    bundle, ids, soft = METHODS[method]
    output = Path(make_output())
    options: dict[str, Any] = {**RUN, **ids, **CHANNELS, "patch_size": SMALL[folder], "output_dir": str(output)}
    options |= {"val_interval": 5, "split_fractions": [0.5, 0.25, 0.25]}
    first = 2 if bundle == "car_lidc" else 1  # of its two stages
    train = overlays(f"{bundle}/train.json", plans[folder])
    run_workflow(files=train, **{**options, "max_epochs": first})
    run_workflow(files=train, **{**options, "max_epochs": first + 1, "resume": True})
    assert torch.load(output / "model_last.pt", weights_only=True)["trainer"]["iteration"] >= 2

    options["checkpoint"] = str(output / "model_last.pt")
    evaluate = overlays(f"{bundle}/train.json", plans[folder], "evaluate.json")
    run_workflow(files=evaluate, **options)
    rows = table(output / "evaluation_test.csv")
    regions = json.loads(Path(plans[folder]).read_text())
    structures = regions["regions"] or regions["class_names"][1:]
    for structure in structures:
        assert any(structure in column for column in rows["mean"])
    inference = overlays(f"{bundle}/inference.json", plans[folder])
    run_workflow(files=inference, **options, max_cases=1)
    assert any((output / "predictions").iterdir())
    assert soft or any((output / "predictions").glob("*samples*"))
