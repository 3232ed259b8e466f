# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest
import torch
from ignite.engine import Engine
from monai.handlers import IgniteMetricHandler, from_engine
from torch import distributed, multiprocessing

from monai_stochseg.handlers.reliability_figure import ReliabilityFigure
from monai_stochseg.metrics import ExpectedCalibrationErrorMetric
from monai_stochseg.visualize.reliability import plot_reliability


def evaluator(filename: Path, rank: int = 0, foreground_only: bool = False) -> Engine:
    engine = Engine(lambda _, items: items)
    engine.state.rank = rank
    metric = ExpectedCalibrationErrorMetric(num_bins=4, foreground_only=foreground_only)
    IgniteMetricHandler(metric_fn=metric, output_transform=from_engine(["probabilities", "label"])).attach(
        engine, "ece"
    )
    ReliabilityFigure(filename, metric, "network").attach(engine)
    return engine


def batch() -> list[dict]:
    return [{"probabilities": torch.randn(3, 6, 6).softmax(0), "label": torch.arange(36).reshape(1, 6, 6) % 3 % 2}]


@pytest.mark.parametrize(
    ("foreground_only", "title", "voxels"),
    [(False, "all voxels", 72), (True, "voxels that a rater labels as foreground", 24)],
)
def test_draws_at_the_end(tmp_path, monkeypatch, foreground_only, title, voxels) -> None:
    drawn = []
    name = "monai_stochseg.handlers.reliability_figure.plot_reliability"
    monkeypatch.setattr(name, lambda bins, *args: drawn.append((bins, *args)) or plot_reliability(bins, *args))
    engine = evaluator(tmp_path / "deep" / "reliability.png", foreground_only=foreground_only)
    for run in range(2):
        engine.run([batch(), batch()])
        assert (tmp_path / "deep" / "reliability.png").read_bytes()[:4] == b"\x89PNG"
        assert drawn[run][1:] == ("confidence", title)
        assert drawn[run][0]["network"][:, 0].sum() == voxels  # the voxels of this run
        heading, *rows = (tmp_path / "deep" / "reliability.csv").read_text().split()
        assert heading == "bin,count,confidence,accuracy"
        values = torch.tensor([[float(value) for value in row.split(",")] for row in rows], dtype=torch.float64)
        assert values[:, 0].tolist() == [0, 1, 2, 3]
        torch.testing.assert_close(values[:, 1:], drawn[run][0]["network"])
        (tmp_path / "deep" / "reliability.png").unlink()


def _rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/init", rank=rank, world_size=2)
    evaluator(Path(folder) / f"{rank}.png", rank).run([batch()])
    distributed.destroy_process_group()


def test_the_first_process_draws_for_all(tmp_path) -> None:
    multiprocessing.start_processes(_rank, args=(str(tmp_path),), nprocs=2, start_method="fork")
    assert (tmp_path / "0.png").exists()
    assert not (tmp_path / "1.png").exists()
