# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import pytest

from monai_stochseg.visualize import plot_sampling_cost

POINTS = {"slow": (80.0, 0.2), "fast": (0.5, 0.4)}


def test_points(tmp_path) -> None:
    figure = plot_sampling_cost(POINTS, readers=0.03)
    ax = figure.axes[0]
    slow, fast, floor = ax.get_lines()
    assert (slow.get_xdata()[0], slow.get_ydata()[0]) == (80, 0.2)
    assert (fast.get_xdata()[0], fast.get_ydata()[0]) == (0.5, 0.4)
    assert floor.get_ydata()[0] == 0.03
    assert floor.get_linestyle() == "--"
    assert ax.get_xscale() == "log"
    assert ax.get_ylim()[0] == 0
    assert "milliseconds" in ax.get_xlabel()
    # as the points lie, from top to bottom
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["fast", "slow", "readers"]
    figure.savefig(tmp_path / "figure.png", dpi=40)
    assert (tmp_path / "figure.png").stat().st_size > 1000


def test_many_methods_look_different() -> None:
    lines = plot_sampling_cost({f"method {i}": (i + 1.0, 0.1) for i in range(17)}).axes[0].get_lines()
    assert len({(str(line.get_color()), line.get_marker(), str(line.get_markerfacecolor())) for line in lines}) == 17


def test_marks_of_the_axis_do_not_lie_upon_each_other() -> None:
    for points, marked in (({"a": (0.5, 0.1), "b": (3.0, 0.1)}, True), ({"a": (0.001, 0.1), "b": (80.0, 0.1)}, False)):
        ax = plot_sampling_cost(points).axes[0]
        assert (2 in [round(float(tick), 6) for tick in ax.get_xticks()]) == marked


def test_an_unbiased_estimate_may_be_negative() -> None:
    assert plot_sampling_cost({"a": (1.0, -0.1)}).axes[0].get_ylim()[0] < -0.1


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ({}, "points must hold at least one method"),
        ({"a": (0.0, 0.1)}, "the point of a must be positive milliseconds and a distance, got"),
        ({"a": (1.0, math.nan)}, "the point of a must be"),
    ],
)
def test_rejects(points, message) -> None:
    with pytest.raises(ValueError, match=message):
        plot_sampling_cost(points)
