# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import pytest
import torch

from monai_stochseg.visualize import plot_ambiguity

FRACTIONS = torch.tensor([[0.0, 0.0], [0.02, 0.0], [0.5, 0.25], [1.0, 1.0], [0.3, math.nan]])


def test_a_histogram_of_each_kind_of_image(tmp_path) -> None:
    figure = plot_ambiguity(FRACTIONS, 0.1, "validation")
    assert [ax.get_title(loc="left") for ax in figure.axes] == [
        "all raters show it: 2 images", "raters disagree: 1 images", "no rater shows it: 1 images"
    ]  # fmt: skip
    heights = [[patch.get_height() for patch in ax.patches] for ax in figure.axes]
    assert [sum(row) for row in heights] == [2, 1, 1]
    assert heights[0][0] == 2
    assert heights[2][-1] == 1
    for ax in figure.axes:
        assert [line.get_xdata()[0] for line in ax.lines] == [0.1, 0.9]
    figure.savefig(tmp_path / "figure.png", dpi=40)
    assert (tmp_path / "figure.png").stat().st_size > 1000


def test_kinds_that_are_absent_have_no_panel() -> None:
    """A share of weights that do not quite add up to 1 is that of all raters."""
    figure = plot_ambiguity(torch.tensor([[0.2, 1 - 1e-7], [0.3, 1.0]]))
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["no rater shows it: 2 images"]
    assert not figure.axes[0].lines
    assert len(plot_ambiguity(torch.full((2, 2), math.nan)).axes) == 1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((torch.zeros(3),), r"fractions must have shape \[items, 2\], got \(3,\)"),
        ((FRACTIONS, 0.5), r"threshold must lie in \[0, 0.5\), got 0.5"),
    ],
)
def test_rejects(given, message) -> None:
    with pytest.raises(ValueError, match=message):
        plot_ambiguity(*given)
