# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from ignite.engine import Engine
from matplotlib.figure import Figure

from monai_stochseg.handlers import MetricFigure


@pytest.mark.parametrize("rank", [0, 1])
def test_each_process_makes_the_figure_and_the_first_writes_it(tmp_path, rank) -> None:
    figures: list[Figure] = []

    def draw() -> Figure:
        figures.append(Figure())
        return figures[-1]

    engine = Engine(lambda engine, batch: None)
    engine.state.rank = rank
    MetricFigure(str(tmp_path / "figures" / "metric.png"), draw).attach(engine)
    engine.run([0, 1], max_epochs=2)
    assert len(figures) == 1
    written = tmp_path / "figures" / "metric.png"
    assert written.exists() == (rank == 0)
    assert rank or written.read_bytes()[:4] == b"\x89PNG"
