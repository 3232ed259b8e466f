# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch

from monai_stochseg.visualize.reliability import plot_reliability

BINS = torch.tensor([[0, 0, 0], [0, 0, 0], [30, 15, 18], [70, 63, 56]]).double()
OTHER = torch.tensor([[10, 2, 1], [30, 24, 27]]).double()


def test_points_are_the_bins(tmp_path) -> None:
    figure = plot_reliability({"a": BINS, "b": OTHER}, "probability of tumour")
    diagram, histogram = figure.axes
    diagonal, a, b = diagram.get_lines()
    assert list(diagonal.get_xdata()) == list(diagonal.get_ydata())
    assert a.get_xdata().tolist() == pytest.approx([0.5, 0.9])
    assert a.get_ydata().tolist() == pytest.approx([0.6, 0.8])
    assert b.get_xdata().tolist() == pytest.approx([0.2, 0.8])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a (ECE 0.1000)", "b (ECE 0.1000)"]
    shares = [patch.get_data() for patch in histogram.patches]
    assert shares[0].values.tolist() == pytest.approx([0, 0, 30, 70])
    assert shares[0].edges.tolist() == pytest.approx([0, 0.25, 0.5, 0.75, 1])
    assert shares[1].values.tolist() == pytest.approx([25, 75])
    assert histogram.get_xlabel() == "probability of tumour"
    assert a.get_color() == histogram.patches[0].get_edgecolor()[:3] != b.get_color()
    figure.savefig(tmp_path / "figure.png", dpi=40)
    assert (tmp_path / "figure.png").stat().st_size > 1000


@pytest.mark.filterwarnings("ignore:Data has no positive values")
def test_no_voxel_is_no_point(tmp_path) -> None:
    figure = plot_reliability({"a": torch.zeros(4, 3)})
    assert figure.axes[0].get_lines()[1].get_xdata().size == 0
    figure.savefig(tmp_path / "figure.png", dpi=40)


def test_many_models_look_different() -> None:
    figure = plot_reliability({f"model {i}": BINS for i in range(13)})
    lines = figure.axes[0].get_lines()[1:]
    assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == 13


@pytest.mark.parametrize(
    ("bins", "message"),
    [({}, "bins must hold at least one model"), ({"a": torch.zeros(10)}, r"bins must be \[num_bins, 3\] finite sums")],
)
def test_rejects(bins, message) -> None:
    with pytest.raises(ValueError, match=message):
        plot_reliability(bins)
