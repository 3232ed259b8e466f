# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
from collections.abc import Mapping

from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from monai_stochseg.distributions.arguments import check_arguments
from monai_stochseg.visualize.energy_distance_curve import MARKERS


@check_arguments
def plot_sampling_cost(
    points: Mapping[str, tuple[float, float]],
    readers: float | None = None,
    ylabel: str = "generalised energy distance",
) -> Figure:
    """
    Plot the energy distance against what a sample costs, one point per method: below and to the left is better.

    The legend lists the methods from the greatest distance to the least, as the points lie from top to bottom.

    Args:
        points: for each method the milliseconds for one more sample of an image, and the mean energy distance.
        readers: the distance of samples drawn from the readers themselves, a dashed line.
        ylabel: label of the vertical axis.

    Raises:
        ValueError: when there is no method, milliseconds are not positive, or a value is not finite.
    """
    if not points:
        raise ValueError("points must hold at least one method, got none.")
    for name, (milliseconds, distance) in points.items():
        if not 0 < milliseconds < math.inf or not math.isfinite(distance):
            raise ValueError(
                f"the point of {name} must be positive milliseconds and a distance, got {(milliseconds, distance)}."
            )
    figure = Figure(figsize=(7.5, 4.5), layout="constrained")
    ax = figure.subplots()
    colours = colormaps["tab10"].colors
    handles = []
    for i, (name, (milliseconds, distance)) in enumerate(points.items()):
        # A second round of the colours has hollow marks.
        colour = colours[i % len(colours)]
        face = colour if i < len(colours) else "none"
        style = {"marker": MARKERS[i % len(MARKERS)], "markersize": 8, "color": colour, "markerfacecolor": face}
        (line,) = ax.plot([milliseconds], [distance], linestyle="none", label=name, **style)
        handles.append((distance, line))
    if readers is not None:
        handles.append((readers, ax.axhline(readers, linestyle="--", color="black", linewidth=1.5, label="readers")))
    ax.set_xscale("log")
    times = [milliseconds for milliseconds, _ in points.values()]
    wide = max(times) > 100 * min(times)  # marks at 2 and 5 would lie upon each other
    ax.xaxis.set_major_locator(LogLocator(subs=(1,) if wide else (1, 2, 5)))
    ax.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.margins(x=0.1)
    if all(distance >= 0 for distance, _ in handles):  # an unbiased estimate may be negative
        ax.set_ylim(bottom=0)
    ax.set_xlabel("milliseconds for one more sample of an image")
    ax.set_ylabel(ylabel)
    ax.grid(alpha=0.3)
    ax.spines[["top", "right"]].set_visible(False)
    legend = [line for _, line in sorted(handles, key=lambda pair: -pair[0])]
    figure.legend(handles=legend, loc="outside right center", fontsize=9, frameon=False)
    return figure
