# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch

from monai_stochseg.visualize import plot_case_dice

ROWS = torch.tensor(
    [[0.8, 0.5, 0.1, 0.2, 0.3, 0.4, 0.9], [0.6, 0.0, 0.0, 0.1, 0.2, 0.3, 0.5], [torch.nan] * 7],
)


def test_boxes_and_crosses_in_the_order_of_the_answer(tmp_path) -> None:
    figure = plot_case_dice(ROWS)
    (ax,) = figure.axes
    (crosses,) = [line for line in ax.get_lines() if line.get_marker() == "x"]
    assert crosses.get_ydata() == pytest.approx([0.6, 0.8])
    heights = {round(float(value), 4) for line in ax.get_lines() for value in line.get_ydata()}
    assert heights >= {0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.9}
    assert ax.get_title() == "25.0 % of the samples are better than the single answer"
    assert plot_case_dice(ROWS, "validation").axes[0].get_title() == "validation"
    figure.savefig(tmp_path / "figure.png", dpi=40)
    assert (tmp_path / "figure.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (torch.zeros(2, 6), r"rows must be \[cases, 7\] of CaseDiceMetric, got \(2, 6\)"),
        (ROWS[2:], "at least one case with a value"),
    ],
)
def test_rejects(rows, message) -> None:
    with pytest.raises(ValueError, match=message):
        plot_case_dice(rows)
