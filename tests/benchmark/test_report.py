# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import csv
import math

import pytest
from PIL import Image

from monai_stochseg.benchmark import write_report

ROW = {
    "ged": 0.1,
    "ged_curve": [0.8, 0.7, 0.6, 0.5, 0.4, 0.35, 0.3, 0.25],
    "hm_iou": 0.5,
    "diversity": 0.41,
    "rater_diversity": 0.42,
    "dice": 0.6,
    "dice_nonempty": 0.7,
    "ece": 0.0123,
    "ambiguity": 0.8,
    "diversity_correlation": 0.9,
    "empty_correlation": math.nan,
    "seconds_per_step": 0.1234,
    "seconds_per_sample": 0.00567,
    "peak_memory": 3 * 2**20,
    "parameters": 190000,
}
SHOWN = "0.400 0.300 0.250 0.500 0.410 0.420 0.600 0.700 0.0123 0.800 0.900 n/a 0.123 5.67 3 190000"


def test_every_column(tmp_path) -> None:
    readers = {key: value for key, value in ROW.items() if not key.startswith(("seconds", "peak", "param"))}
    table = write_report({"a": ROW, "readers": readers}, tmp_path / "new", "a task, SIMULATED", "readers")
    title, empty, headings, rule, *lines = table.splitlines()
    assert (title, empty) == ("a task, SIMULATED", "")
    assert (tmp_path / "new" / "benchmark.md").read_text() == table
    assert {line.count("|") for line in (headings, rule, *lines)} == {18}
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells == [["a", *SHOWN.split()], ["readers", *SHOWN.split()[:12], "", "", "", ""]]

    with (tmp_path / "new" / "benchmark.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["method"] for row in rows] == ["a", "readers"]
    assert rows[0]["GED 50"] == "0.3"
    assert rows[0]["empty share, rank correlation"] == "nan"
    assert float(rows[0]["ms / sample"]) == pytest.approx(5.67)
    assert (rows[1]["s / step"], rows[1]["peak MiB"]) == ("", "")
    assert rows[1]["setting"] == "a task, SIMULATED"
    assert min(Image.open(tmp_path / "new" / "benchmark.png").size) > 300


def test_no_method_succeeded(tmp_path) -> None:
    table = write_report({}, tmp_path, "a task", "readers")
    assert table.count("\n") == 4
    assert not (tmp_path / "benchmark.png").exists()
