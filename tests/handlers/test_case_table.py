# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import csv
import re
from statistics import stdev

import pytest
import torch
from ignite.engine import Engine
from matplotlib.figure import Figure
from monai.data import DataLoader, Dataset, MetaTensor
from monai.handlers import IgniteMetricHandler, from_engine
from torch import nn

from monai_stochseg.engines import StochasticEvaluator
from monai_stochseg.handlers import CaseTable, SampleFigure
from monai_stochseg.metrics import (
    ExpectedCalibrationErrorMetric,
    GeneralizedEnergyDistanceMetric,
    LabelMapDistance,
    RegionDiceMetric,
    SampleDiceMetric,
    SampleDiversityMetric,
)
from monai_stochseg.networks.nets import StochasticSegmentationNetwork


def evaluator(handlers: list, metrics: dict) -> StochasticEvaluator:
    def item(i: int) -> dict:
        image = MetaTensor(torch.full((1, 4, 4), float(i)), meta={"filename_or_obj": f"/data/case_{i}.nii.gz"})
        return {"image": image, "label": torch.full((2, 4, 4), i % 2)}

    network = StochasticSegmentationNetwork(nn.Conv2d(1, 4, 1), 4, 2, rank=2, spatial_dims=2)
    return StochasticEvaluator(
        "cpu",
        DataLoader(Dataset([item(i) for i in range(3)]), batch_size=2),
        network,
        num_samples=3,
        key_val_metric={name: metrics[name] for name in ("ged",)},
        additional_metrics={name: metric for name, metric in metrics.items() if name != "ged"},
        metric_cmp_fn=lambda current, best: current < best,
        val_handlers=handlers,
    )


def test_a_row_a_case_and_the_mean(tmp_path):
    ged, dice = GeneralizedEnergyDistanceMetric(2), SampleDiceMetric({"one": (1,)})
    engine = evaluator(
        [CaseTable(tmp_path / "deep" / "table.csv", {"ged": ged, "dice": dice})],
        {
            "ged": IgniteMetricHandler(metric_fn=ged, output_transform=from_engine(["samples", "label"])),
            "dice": IgniteMetricHandler(metric_fn=dice, output_transform=from_engine(["samples", "label"])),
        },
    )
    for _ in range(2):  # a second run writes the same table again
        engine.run()
        rows = list(csv.DictReader((tmp_path / "deep" / "table.csv").open()))
        assert [row["case"] for row in rows] == ["case_0", "case_1", "case_2", "mean"]
        assert list(rows[0]) == ["case", "ged", "dice_one", "dice_q95_one", "better_than_mode_one"]
        assert abs(float(rows[-1]["ged"]) - engine.state.metrics["ged"]) < 1e-5
        assert rows[0]["dice_one"] == "nan"
        assert rows[1]["dice_one"] == rows[-1]["dice_one"]  # the only case with a value


@pytest.mark.parametrize("std", [False, True])
def test_mean_and_standard_deviation(tmp_path, std):
    a, b, undefined = (SampleDiversityMetric(LabelMapDistance(2, include_background=True)) for _ in range(3))
    table = CaseTable(tmp_path / "table.csv", {"a": a, "b": b, "c": undefined}, std=std)
    a.extend(torch.tensor([[1.0], [2.0], [6.0]]))
    b.extend(torch.tensor([[1.0], [torch.nan], [2.0]]))
    undefined.extend(torch.full((3, 1), torch.nan))
    engine = Engine(lambda _, name: [{"image": MetaTensor(torch.ones(1, 2, 2), meta={"filename_or_obj": name})}])
    engine.state.rank = 0
    table.attach(engine)
    engine.run(["x.nii.gz", "y.nii", "z.dcm"])
    rows = list(csv.reader((tmp_path / "table.csv").open()))
    assert [row[0] for row in rows] == ["case", "x", "y", "z.dcm", "mean", *(["std"] if std else [])]
    assert rows[4][1:] == ["3", "1.5", "nan"]
    if std:
        # deviations -2, -1, 3 over three cases, and 1/2 over two
        assert [float(value) for value in rows[5][1:3]] == pytest.approx([(14 / 3) ** 0.5, 0.5], rel=1e-5)
        assert rows[5][3] == "nan"


def test_a_name_that_is_a_formula_is_text(tmp_path):
    ged = GeneralizedEnergyDistanceMetric(2)
    handler = IgniteMetricHandler(metric_fn=ged, output_transform=from_engine(["samples", "label"]))
    engine = evaluator([CaseTable(tmp_path / "table.csv", {"ged": ged})], {"ged": handler})
    engine.data_loader.dataset.data[0]["image"].meta["filename_or_obj"] = '/data/=HYPERLINK("evil").nii.gz'
    engine.run()
    with (tmp_path / "table.csv").open(newline="") as file:
        assert [row["case"] for row in csv.DictReader(file)] == ['\'=HYPERLINK("evil")', "case_1", "case_2", "mean"]


def test_rejects_columns_of_one_name():
    dice = RegionDiceMetric({"WT": (1,)})
    with pytest.raises(ValueError, match=r"metrics must name each column once, got \['WT'\] more than once"):
        CaseTable("table.csv", {"dice": dice, "again": dice})


def test_the_figure_goes_with_the_best_metric(tmp_path):
    ged = GeneralizedEnergyDistanceMetric(2)
    engine = evaluator(
        [SampleFigure(tmp_path / "deep" / "samples.png")],
        {"ged": IgniteMetricHandler(metric_fn=ged, output_transform=from_engine(["samples", "label"]))},
    )
    engine.run(global_epoch=1)
    figure = tmp_path / "deep" / "samples.png"
    assert figure.read_bytes()[:4] == b"\x89PNG"
    figure.unlink()
    engine.run(global_epoch=2)  # the same value again is no new best
    assert not figure.exists()


@pytest.mark.parametrize(
    ("options", "expected"),
    [({}, r"epoch 3, ged \d\.\d+"), ({"title": "simulated CT", "epoch": False}, r"simulated CT, ged \d\.\d+")],
)
def test_the_caption_of_the_figure(tmp_path, monkeypatch, options, expected):
    """What it is, the epoch of a training, and the key metric."""
    captions = []
    monkeypatch.setattr(
        "monai_stochseg.handlers.sample_figure.plot_samples",
        lambda *args, title, **kwargs: captions.append(title) or Figure(),
    )
    ged = GeneralizedEnergyDistanceMetric(2)
    engine = evaluator(
        [SampleFigure(tmp_path / "samples.png", **options)],
        {"ged": IgniteMetricHandler(metric_fn=ged, output_transform=from_engine(["samples", "label"]))},
    )
    engine.run(global_epoch=3)
    (caption,) = captions
    assert re.fullmatch(expected, caption)


def test_standard_errors_and_values_over_all_cases(tmp_path):
    """Of n values the standard deviation by n - 1 over the root of n; a pooled value is in the mean's row alone."""
    ged, ece = GeneralizedEnergyDistanceMetric(2), ExpectedCalibrationErrorMetric()
    transform = from_engine(["probabilities", "label"])
    engine = evaluator(
        [CaseTable(tmp_path / "table.csv", {"ged": ged, "ece": ece}, standard_error=True)],
        {
            "ged": IgniteMetricHandler(metric_fn=ged, output_transform=from_engine(["samples", "label"])),
            "ece": IgniteMetricHandler(metric_fn=ece, output_transform=transform),
        },
    )
    engine.run()
    rows = {row["case"]: row for row in csv.DictReader((tmp_path / "table.csv").open())}
    assert list(rows) == ["case_0", "case_1", "case_2", "mean", "standard_error"]
    values = [float(rows[f"case_{i}"]["ged"]) for i in range(3)]
    assert float(rows["standard_error"]["ged"]) == pytest.approx(stdev(values) / 3**0.5, rel=1e-4)
    assert [rows[name]["ece"] for name in rows if name != "mean"] == ["nan"] * 4
    assert float(rows["mean"]["ece"]) == pytest.approx(float(engine.state.metrics["ece"]), rel=1e-4)
