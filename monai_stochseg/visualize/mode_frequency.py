# SPDX-License-Identifier: Apache-2.0
"""Frequencies of samples beside the probabilities of a known truth, after Kohl et al. 2018, figure 5."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from matplotlib import colormaps
from matplotlib.figure import Figure

from monai_stochseg.distributions.arguments import check_arguments

_MARKERS = "osD^vP*X<>"


@check_arguments
def plot_mode_frequency(frequencies: Mapping[str, torch.Tensor]) -> Figure:
    """
    Plot the frequency of each mode among the samples of one or more models, over a bar of its probability.

    The modes are sorted by probability; their numbers stand below. The legend gives each model's total variation
    distance from the truth.

    Args:
        frequencies: for each model ``[2, M]``, as :py:meth:`monai_stochseg.metrics.ModeFrequencyMetric.frequencies`
            returns them; their probabilities must be the same.

    Raises:
        ValueError: when there is no model, a tensor has another shape, or the probabilities differ.
    """
    if not frequencies:
        raise ValueError("frequencies must hold at least one model, got none.")
    truth = next(iter(frequencies.values()))[-1]
    points = {}
    for name, pair in frequencies.items():
        if pair.shape != (2, *truth.shape) or pair.ndim != 2 or not pair[1].allclose(truth, equal_nan=True):
            raise ValueError(
                f"frequencies of {name} must be [2, M] with the probabilities of the other models in the second row, "
                f"got {pair.tolist()}."
            )
        points[f"{name} (TV {(pair[0] - truth).abs().sum() / 2:.3f})"] = pair[0]
    order = truth.sort(descending=True, stable=True).indices
    points = {name: value[order] for name, value in points.items()}
    figure = _over_bars(truth[order], points, [str(i) for i in order.tolist()], 0.08 * (2 + len(points)))
    figure.axes[0].set(xlabel="mode", ylabel="frequency")
    return figure


@check_arguments
def plot_flip_ratio(
    ratios: Mapping[str, torch.Tensor], probabilities: Sequence[float], switch_names: Sequence[str]
) -> Figure:
    """
    Plot the share of each class's voxels that samples of one or more models flip, over a bar of its probability.

    Args:
        ratios: for each model ``[K]``, as :py:meth:`monai_stochseg.metrics.PixelFlipRatioMetric.ratios` returns them;
            NaN has no point.
        probabilities: of the K switches.
        switch_names: names of the K switches, such as those of their classes.

    Raises:
        ValueError: when there is no model, or the numbers of switches differ.
    """
    if not ratios:
        raise ValueError("ratios must hold at least one model, got none.")
    sizes = {
        "probabilities": len(probabilities),
        **{f"ratios of {name}": len(values) for name, values in ratios.items()},
    }
    if wrong := {name: size for name, size in sizes.items() if size != len(switch_names)}:
        raise ValueError(f"all must have as many switches as switch_names, {len(switch_names)}, got {wrong}.")
    figure = _over_bars(torch.tensor(probabilities), ratios, switch_names, 1.0)
    figure.axes[0].set(xlabel="switch", ylabel="share of voxels flipped")
    return figure


def _over_bars(truth: torch.Tensor, points: Mapping[str, torch.Tensor], labels: Sequence[str], inches: float) -> Figure:
    """One bar per label for the truth, ``inches`` apart, with the points of each model over it side by side."""
    figure = Figure(figsize=(min(3 + inches * len(labels), 18), 4), layout="constrained")
    ax = figure.subplots()
    x = torch.arange(len(labels))
    ax.bar(x, truth.cpu(), width=0.85, color="0.85", label="truth")
    colours = colormaps["tab10"].colors
    for i, (name, values) in enumerate(points.items()):
        style = {"color": colours[i % len(colours)], "marker": _MARKERS[i % len(_MARKERS)]}
        # A second round of the colours has hollow markers.
        style["markerfacecolor"] = style["color"] if i < len(colours) else "none"
        shift = 0.7 * ((i + 0.5) / len(points) - 0.5)
        ax.plot(x + shift, values.cpu(), linestyle="none", markersize=5, clip_on=False, label=name, **style)
    ax.set_xticks(x, labels, fontsize=9 if len(labels) <= 16 else 7)
    ax.set_xlim(-0.6, len(labels) - 0.4)
    ax.set_ylim(bottom=0)
    ax.grid(axis="y", alpha=0.3)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right upper", fontsize=9, frameon=False)
    return figure
