# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Mapping

import torch
from matplotlib import colormaps
from matplotlib.figure import Figure

from monai_stochseg.distributions.arguments import check_arguments
from monai_stochseg.metrics import expected_calibration_error

_MARKERS = "osD^vP*X<>"


@check_arguments
def plot_reliability(
    bins: Mapping[str, torch.Tensor], confidence_label: str = "confidence", title: str | None = None
) -> Figure:
    """
    Plot the reliability diagram (Guo et al. 2017, figure 1) and, below it, the histogram of the confidence of one or
    more models.

    A point is a bin: the mean accuracy of its voxels against their mean confidence; on the dashed diagonal the two are
    equal, below it the model is overconfident. A bin without a voxel has no point. The legend gives each model's
    expected calibration error.

    Args:
        bins: for each model ``[num_bins, 3]``, as :py:meth:`monai_stochseg.metrics.ExpectedCalibrationErrorMetric.bins`
            and :py:func:`monai_stochseg.metrics.compute_calibration_bins` return them; num_bins may differ.
        confidence_label: label of the horizontal axis, such as "probability of tumour" for the bins of one class.
        title: stands above the diagram, such as which voxels were counted.

    Raises:
        ValueError: when there is no model, or bins have another shape.
    """
    if not bins:
        raise ValueError("bins must hold at least one model, got none.")
    figure = Figure(figsize=(5, 6.2), layout="constrained")
    diagram, histogram = figure.subplots(2, 1, sharex=True, height_ratios=(2.6, 1))
    diagram.plot([0, 1], [0, 1], "--", color="black", linewidth=1)
    colours = colormaps["tab10"].colors
    for i, (name, sums) in enumerate(bins.items()):
        error = expected_calibration_error(sums)
        colour = colours[i % len(colours)]
        line = "-" if i < len(colours) else ":"  # a second round of the colours has another line style
        count, confidence, accuracy = sums.double().cpu().unbind(1)
        full = count > 0
        diagram.plot(
            (confidence / count)[full],
            (accuracy / count)[full],
            line,
            color=colour,
            marker=_MARKERS[i % len(_MARKERS)],
            markersize=5,
            linewidth=1.5,
            clip_on=False,
            label=f"{name} (ECE {error:.4f})",
        )
        share = 100 * count / count.sum().clamp(min=1)
        edges = torch.linspace(0, 1, len(count) + 1)
        histogram.stairs(share.numpy(), edges.numpy(), color=colour, linestyle=line, linewidth=1.5)
    diagram.set(xlim=(0, 1), ylim=(0, 1), ylabel="accuracy")
    if title is not None:
        diagram.set_title(title, fontsize=10)
    figure.legend(fontsize=9, frameon=False, loc="outside upper left")
    histogram.set_yscale("log")  # most voxels have a confidence near 1
    histogram.yaxis.set_major_formatter("{x:g}")
    histogram.set(xlabel=confidence_label, ylabel="voxels (%)")
    for ax in (diagram, histogram):
        ax.grid(alpha=0.3)
        ax.spines[["top", "right"]].set_visible(False)
    return figure
