# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch

from monai_stochseg.visualize import plot_flip_ratio, plot_mode_frequency

TRUTH = torch.tensor([0.2, 0.5, 0.3])
GOOD, BAD = torch.stack([torch.tensor([0.3, 0.4, 0.3]), TRUTH]), torch.stack([torch.tensor([0.0, 1.0, 0.0]), TRUTH])


def drawn(figure) -> tuple[list[float], list[list[float]], list[str], list[str]]:
    """Heights of the bars, of the points of each model, labels below and names in the legend."""
    (ax,) = figure.axes
    bars = [bar.get_height() for bar in ax.patches]
    points = [[float(y) for y in line.get_ydata()] for line in ax.get_lines()]
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    return bars, points, [text.get_text() for text in ax.get_xticklabels()], names


def test_modes_are_sorted_by_probability(tmp_path) -> None:
    figure = plot_mode_frequency({"good": GOOD, "bad": BAD})
    bars, points, labels, names = drawn(figure)
    assert bars == pytest.approx([0.5, 0.3, 0.2])
    assert points[0] == pytest.approx([0.4, 0.3, 0.3])
    assert points[1] == pytest.approx([1, 0, 0])
    assert labels == ["1", "2", "0"]
    assert names == ["good (TV 0.100)", "bad (TV 0.500)", "truth"]
    for line in figure.axes[0].get_lines():  # above their bars
        assert line.get_xdata().round().tolist() == [0, 1, 2]
    figure.savefig(tmp_path / "figure.png", dpi=40)
    assert (tmp_path / "figure.png").stat().st_size > 1000


def test_switches_are_named(tmp_path) -> None:
    ratios = {"a": torch.tensor([0.4, float("nan")]), "b": torch.tensor([0.5, 0.25])}
    figure = plot_flip_ratio(ratios, [0.375, 0.25], ["road", "car"])
    bars, points, labels, names = drawn(figure)
    assert bars == [0.375, 0.25]
    assert points[0][0] == pytest.approx(0.4)
    assert points[1] == [0.5, 0.25]
    assert labels == ["road", "car"]
    assert names == ["a", "b", "truth"]
    figure.savefig(tmp_path / "figure.png", dpi=40)


def test_many_models_look_different() -> None:
    lines = plot_mode_frequency({f"model {i}": GOOD for i in range(13)}).axes[0].get_lines()
    assert len({(line.get_color(), line.get_markerfacecolor()) for line in lines}) == 13


@pytest.mark.parametrize(
    ("frequencies", "message"),
    [
        ({}, "frequencies must hold at least one model"),
        ({"a": GOOD, "b": GOOD.flip(0)}, r"frequencies of b must be \[2, M\] with the probabilities of the other"),
        ({"a": GOOD, "b": GOOD[:, :2]}, "frequencies of b must be"),
        ({"a": torch.zeros(3, 4)}, "frequencies of a must be"),
    ],
)
def test_rejects_frequencies(frequencies, message) -> None:
    with pytest.raises(ValueError, match=message):
        plot_mode_frequency(frequencies)


@pytest.mark.parametrize(
    ("ratios", "names", "message"),
    [
        ({}, ["road"], "ratios must hold at least one model"),
        ({"a": torch.zeros(2)}, ["road"], r"switch_names, 1, got {'ratios of a': 2}"),
        ({"a": torch.zeros(2)}, ["road", "car"], r"got {'probabilities': 1}"),
    ],
)
def test_rejects_ratios(ratios, names, message) -> None:
    with pytest.raises(ValueError, match=message):
        plot_flip_ratio(ratios, [0.5], names)
