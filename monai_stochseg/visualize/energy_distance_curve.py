# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Mapping

from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, LogLocator, NullLocator, ScalarFormatter

from monai_stochseg.distributions.arguments import check_arguments

MARKERS = "osD^vP*X<>"


@check_arguments
def plot_energy_distance(
    curves: Mapping[str, Mapping[int, float]],
    readers: Mapping[int, float] | None = None,
    ylabel: str = "generalised energy distance",
) -> Figure:
    """
    Plot the energy distance against the number of samples, one curve per method.

    The legend lists the methods in the order of their last values, as the curves end on the right.

    Args:
        curves: for each method the mean energy distance by number of samples.
        readers: the same for samples drawn from the readers themselves: the lowest curve to expect, dashed.
        ylabel: label of the vertical axis.

    Raises:
        ValueError: when there is no curve, one has no point, or a number of samples is below 1.
    """
    if not curves:
        raise ValueError("curves must hold at least one method, got none.")
    lines = [*curves.items(), *([] if readers is None else [("readers", readers)])]
    for name, curve in lines:
        if not curve or min(curve) < 1:
            raise ValueError(f"the curve of {name} must give a value by number of samples of at least 1, got {curve}.")
    figure = Figure(figsize=(7.5, 4.5), layout="constrained")
    ax = figure.subplots()
    colours = colormaps["tab10"].colors
    for i, (name, curve) in enumerate(curves.items()):
        style = {"color": colours[i % len(colours)], "marker": MARKERS[i % len(MARKERS)]}
        # A second round of the colours has another line style.
        ax.plot(*_points(curve), "-" if i < len(colours) else ":", label=name, markersize=5, linewidth=1.5, **style)
    if readers is not None:
        ax.plot(*_points(readers), "--", color="black", label="readers", linewidth=1.5)
    ax.set_xscale("log")
    counts = sorted({n for _, curve in lines for n in curve})
    ax.xaxis.set_major_locator(FixedLocator(counts) if len(counts) <= 8 else LogLocator(subs=(1, 2, 5)))
    ax.xaxis.set_major_formatter(ScalarFormatter())
    ax.xaxis.set_minor_locator(NullLocator())
    if all(value >= 0 for _, curve in lines for value in curve.values()):  # an unbiased estimate may be negative
        ax.set_ylim(bottom=0)
    ax.set_xlabel("number of samples")
    ax.set_ylabel(ylabel)
    ax.grid(alpha=0.3)
    ax.spines[["top", "right"]].set_visible(False)
    handles = sorted(ax.get_lines(), key=lambda line: -line.get_ydata()[-1])
    figure.legend(handles=handles, loc="outside right center", fontsize=9, frameon=False)
    return figure


def _points(curve: Mapping[int, float]) -> tuple[list[int], list[float]]:
    counts = sorted(curve)
    return counts, [curve[n] for n in counts]
