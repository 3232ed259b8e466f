# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.data import MetaTensor

from monai_stochseg.handlers import VolumeTable


def run(table: VolumeTable, items: list[dict]) -> list[dict[str, str]]:
    engine = Engine(lambda engine, batch: [batch])
    table.attach(engine)
    engine.run(items)
    with Path(table.filename).open(newline="") as file:
        return list(csv.DictReader(file))


def maps(sizes: list[int], spacing: tuple[float, ...], name: str = "a.nii.gz") -> MetaTensor:
    """``[N, *S]`` in which the first so many voxels of 20 are class 2."""
    flat = torch.stack([(torch.arange(20) < size) * 2 for size in sizes]).to(torch.uint8)
    shape = (len(sizes), 5, 4) if len(spacing) == 2 else (len(sizes), 5, 2, 2)
    affine = np.diag([*spacing, *[1.0] * (4 - len(spacing))])
    return MetaTensor(flat.reshape(shape), affine=affine, meta={"filename_or_obj": name})


def test_quantiles_of_the_samples_in_ml(tmp_path) -> None:
    """Voxels of 10 x 10 x 5 mm are 0.5 ml; of 20 samples the first is the 5 % quantile, the 19th that of 95 %."""
    samples = maps(list(range(1, 21)), (10, 10, 5))
    (row,) = run(
        VolumeTable(tmp_path / "v.csv", {"lesion": (1, 2)}, 3), [{"pred": maps([4], (10, 10, 5)), "samples": samples}]
    )
    values = {name.removeprefix("lesion_"): float(value) for name, value in row.items() if name != "case"}
    assert row["case"] == "a"
    assert values == {"answer_ml": 2, "p5_ml": 0.5, "median_ml": 5, "p95_ml": 9.5}


def test_weights_of_samples_count(tmp_path) -> None:
    item = {
        "pred": maps([1], (1, 1)),
        "samples": maps([2, 8, 4], (1, 1)),
        "sample_weights": torch.tensor([0.9, 0.1, 0]),
    }
    (row,) = run(VolumeTable(tmp_path / "v.csv", {"a": (2,)}, 2), [item])
    values = [float(row[f"a_{name}_mm2"]) for name in ("p5", "median", "p95")]
    assert values == [2, 2, 8]


@pytest.mark.parametrize("name", ["case.png", "case.nii", "case.nii.gz", "case"])
def test_single_answers_have_no_quantiles(tmp_path, name: str) -> None:
    (row,) = run(VolumeTable(tmp_path / "v.csv", {"a": (2,), "b": (1,)}, 2), [{"pred": maps([3], (2, 2), name)}])
    assert row == {"case": "case", "a_answer_mm2": "12", "b_answer_mm2": "0"}
