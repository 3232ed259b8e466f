# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import csv
import math

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from monai_stochseg.benchmark import report, write_report
from monai_stochseg.benchmark.report import patient_interval

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
    "seconds_per_image": 0.0421,
    "seconds_per_further_sample": 0.00567,
    "peak_memory": 3 * 2**20,
    "parameters": 190000,
}
SHOWN = "0.400 0.300 0.250 0.500 0.410 0.420 0.600 0.700 0.0123 0.800 0.900 n/a 0.123 42.10 5.670 3 190000"


def test_every_column(tmp_path) -> None:
    readers = {key: value for key, value in ROW.items() if not key.startswith(("seconds", "peak", "param"))}
    table = write_report([{"a": ROW, "readers": readers}], tmp_path / "new", "a task, SIMULATED", "readers")
    title, empty, headings, rule, *lines = table.splitlines()
    assert (title, empty) == ("a task, SIMULATED", "")
    assert (tmp_path / "new" / "benchmark.md").read_text() == table
    assert {line.count("|") for line in (headings, rule, *lines)} == {21}
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    shown = SHOWN.split()
    shown = [shown[0], "", *shown[1:4], "", *shown[4:]]  # without cases there is no interval
    assert cells == [["a", *shown], ["readers", *shown[:14], "", "", "", "", ""]]

    with (tmp_path / "new" / "benchmark.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["method"] for row in rows] == ["a", "readers"]
    assert rows[0]["GED 50"] == "0.3"
    assert rows[0]["empty share, rank correlation"] == "nan"
    assert float(rows[0]["ms / further sample"]) == pytest.approx(5.67)
    assert (rows[1]["s / step"], rows[1]["peak MiB"]) == ("", "")
    assert (rows[1]["setting"], rows[1]["seeds"]) == ("a task, SIMULATED", "1")
    for name in ("benchmark.png", "benchmark_cost.png"):
        assert min(Image.open(tmp_path / "new" / name).size) > 300


def test_results_without_the_time_of_a_sample_have_no_figure_of_it(tmp_path, monkeypatch) -> None:
    """Those of earlier versions, and a time of 0, which a logarithmic axis has not; the others are drawn."""
    drawn = []
    monkeypatch.setattr(report, "plot_sampling_cost", lambda *args: drawn.append(args) or Figure())
    old = {key: value for key, value in ROW.items() if not key.startswith("seconds_per_")} | {"seconds_per_sample": 1.0}
    table = write_report([{"old": old}], tmp_path, "a task", "readers")
    assert "ms /" not in table
    assert not (tmp_path / "benchmark_cost.png").exists()
    rows = {"old": old, "zero": {**ROW, "seconds_per_further_sample": 0.0}, "a": ROW, "readers": old}
    seeds = [rows, {"a": {**ROW, "seconds_per_further_sample": 0.00767}}]
    write_report(seeds, tmp_path, "a task", "readers")
    (arguments,) = drawn
    assert arguments[0] == {"a": pytest.approx((6.67, 0.4))}
    assert arguments[1] == 0.4


def test_means_over_seeds_and_intervals(tmp_path) -> None:
    cases = {"patient": ["p", "p", "q"], "ged": [0.1, 0.3, 0.2], "hm_iou": [0.5, 0.5, 0.5]}
    seeds = [{"a": {**ROW, "dice": dice, "cases": cases}} for dice in (0.4, 0.6)]
    write_report(seeds, tmp_path, "a task", "readers")
    with (tmp_path / "benchmark.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert float(row["Dice"]) == pytest.approx(0.5)
    assert row["seeds"] == "2"
    assert row["HM-IoU 16, 95 %"] == "0.500 to 0.500"
    assert row["GED 16, 95 %"] == "0.200 to 0.200"  # both patients have the mean 0.2


def test_an_interval_draws_patients_with_all_their_cases() -> None:
    """Cases of one patient are alike: taken as independent they would give a third of the width."""
    rng = np.random.default_rng(0)
    patients = [f"{i:02d}" for i in range(40) for _ in range(9)]
    values = np.repeat(rng.normal(size=40), 9)
    low, high = patient_interval([(patients, values.tolist())])
    assert high - low == pytest.approx(2 * 1.96 * values.std() / np.sqrt(40), rel=0.15)
    assert low < values.mean() < high


def test_an_interval_of_undefined_values() -> None:
    assert all(math.isnan(end) for end in patient_interval([(["a"], [math.nan])]))
    assert patient_interval([(["a", "b"], [math.nan, 0.5])])[1] == 0.5


def test_no_method_succeeded(tmp_path) -> None:
    table = write_report([], tmp_path, "a task", "readers")
    assert table.count("\n") == 4
    assert not (tmp_path / "benchmark.png").exists()
