# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from monai_stochseg.visualize import plot_energy_distance

CURVES = {"b": {16: 0.3, 1: 0.6, 100: 0.2}, "a": {1: 0.5, 16: 0.4}}


def test_curves(tmp_path) -> None:
    figure = plot_energy_distance(CURVES, readers={1: 0.4, 100: 0.1})
    ax = figure.axes[0]
    first, second, floor = ax.get_lines()
    assert first.get_xdata().tolist() == [1, 16, 100]
    assert first.get_ydata().tolist() == [0.6, 0.3, 0.2]
    assert second.get_xdata().tolist() == [1, 16]
    assert floor.get_linestyle() == "--"
    assert ax.get_xscale() == "log"
    assert ax.get_xticks().tolist() == [1, 16, 100]
    assert ax.get_ylim()[0] == 0
    # as the curves end, from top to bottom
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b", "readers"]
    figure.savefig(tmp_path / "figure.png", dpi=40)
    assert (tmp_path / "figure.png").stat().st_size > 1000


def test_many_methods_look_different() -> None:
    figure = plot_energy_distance({f"method {i}": {n: 1 / n for n in range(1, 17)} for i in range(13)})
    lines = figure.axes[0].get_lines()
    assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == 13
    assert figure.axes[0].get_xticks().size < 16


def test_an_unbiased_estimate_may_be_negative() -> None:
    assert plot_energy_distance({"a": {1: -0.1, 2: 0.1}}).axes[0].get_ylim()[0] < -0.1


@pytest.mark.parametrize(
    ("curves", "message"),
    [
        ({}, "curves must hold at least one method"),
        ({"a": {}}, "the curve of a must give a value"),
        ({"a": {0: 1.0}}, "at least 1, got {0: 1.0}"),
    ],
)
def test_rejects(curves, message) -> None:
    with pytest.raises(ValueError, match=message):
        plot_energy_distance(curves)
