# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from monai.bundle import ConfigParser
from own_folders import raster_folder
from PIL import Image

from monai_stochseg.planning import plan
from monai_stochseg.planning.experts import choose_experts
from monai_stochseg.planning.survey import CaseReport, StructureReport

STRUCTURE = StructureReport(
    voxels=[90, 110], extent=[9, 9], dice=0.8, iou=0.7, distance=0.15, dice_to_others=[0.8, 0.8], percentiles=[]
)
CASE = CaseReport(
    patient="a", shape=[32, 32], spacing=[1.0, 1.0], channels=1, integer=True, percentiles=[], low=0, high=255,
    raters=["1", "2"], values=[0, 1], structures={"1": STRUCTURE},
)  # fmt: skip


def of(structure: StructureReport) -> CaseReport:
    return replace(CASE, structures={"1": structure})


@pytest.fixture(autouse=True)
def _quick(monkeypatch) -> None:
    monkeypatch.setattr("monai_stochseg.planning.choose.step_seconds", lambda *args: 0.1)


def test_raters_who_differ_at_the_border_let_experts_begin_apart() -> None:
    reasons: list[str] = []
    chosen = choose_experts([CASE, CASE], reasons)
    assert chosen["prior_std"] == 0.3
    assert "mean IoU of two 0.70, 0% of the readings empty" in reasons[0]


@pytest.mark.parametrize(
    "structure",
    [
        replace(STRUCTURE, iou=0.49),  # they mean different objects
        replace(STRUCTURE, voxels=[100, 0]),  # one sees nothing
        replace(STRUCTURE, voxels=[100], iou=float("nan")),  # one rater
        replace(STRUCTURE, iou=float("nan")),
    ],
)
def test_other_raters_leave_the_experts_as_they_are(structure: StructureReport) -> None:
    reasons: list[str] = []
    assert choose_experts([of(structure)], reasons) == {}
    assert not reasons


def test_a_plan_sets_the_experts_of_any_number(tmp_path, repository) -> None:
    root = raster_folder(tmp_path, 6, colour=False)
    plan(str(root), progress=False)
    content = json.loads((root / "plan.json").read_text())
    assert any("at the border alone" in reason for reason in content["plan"]["reasons"])
    parser = ConfigParser()
    parser.read_config([str(repository / "bundles" / "mose_lidc" / "train.json"), str(root / "plan.json")])
    parser["bundle_root"] = str(tmp_path)
    parser["num_experts"] = 8
    parser["max_epochs"] = 30
    assert parser.get_parsed_content("gamma") == [[1, 1 / 32], [20, 0.25]]
    assert parser.get_parsed_content("loss").solver == "exact"
    assert parser.get_parsed_content("network_def").prior_log_std().exp().tolist() == pytest.approx([0.3] * 8)
    for file in Path(root, "readers", "Bob").glob("*.png"):
        Image.fromarray(np.zeros_like(np.asarray(Image.open(file)))).save(file)
    plan(str(root), progress=False)
    assert "gamma" not in json.loads((root / "plan.json").read_text())
