# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import torch
from matplotlib.figure import Figure

from monai_stochseg.distributions.arguments import check_arguments, check_axes

_COLUMNS = 7


@check_arguments
def plot_case_dice(rows: torch.Tensor, title: str | None = None) -> Figure:
    """
    Plot the samples' Dice of each case as a box and that of its single answer as a cross (Monteiro et al. 2020,
    https://arxiv.org/abs/2006.06015, figure 5).

    A box reaches from the lower to the upper quartile, its line is the median, its whiskers reach to the worst and the
    best sample. Cases stand in the order of their single answer's Dice; one without a value is left out.

    Args:
        rows: ``[cases, 7]``, as :py:meth:`monai_stochseg.metrics.CaseDiceMetric.rows` gives them.
        title: stands above the figure. Default: the mean share of samples that are better than the single answer.

    Raises:
        ValueError: when ``rows`` has another shape, or no case has a value.
    """
    check_axes(f"[cases, {_COLUMNS}]", 2, rows=rows)
    if rows.shape[1] != _COLUMNS:
        raise ValueError(f"rows must be [cases, {_COLUMNS}] of CaseDiceMetric, got {tuple(rows.shape)}.")
    rows = rows.detach().float().cpu()
    rows = rows[~rows.isnan().any(1)]
    if not len(rows):
        raise ValueError("rows must hold at least one case with a value, got none.")
    rows = rows[rows[:, 0].argsort(stable=True)]
    keys = ("whislo", "q1", "med", "q3", "whishi")
    boxes = [{**dict(zip(keys, row[2:].tolist(), strict=True)), "fliers": []} for row in rows]
    figure = Figure(figsize=(min(16, 3 + 0.25 * len(rows)), 4.5), layout="constrained")
    ax = figure.subplots()
    positions = list(range(1, len(rows) + 1))
    ax.bxp(boxes, positions=positions, showfliers=False, widths=0.6)
    ax.plot(positions, rows[:, 0].tolist(), "x", color="tab:red", label="single answer", zorder=3)
    ax.set(xlabel="case", ylabel="Dice, mean over the structures", ylim=(-0.02, 1.02))
    ax.set_xticks([])
    share = 100 * rows[:, 1].mean().item()
    ax.set_title(f"{share:.1f} % of the samples are better than the single answer" if title is None else title)
    ax.legend(frameon=False, loc="lower right")
    ax.grid(axis="y", alpha=0.3)
    ax.spines[["top", "right"]].set_visible(False)
    return figure
