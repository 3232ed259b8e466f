# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import torch
from matplotlib.figure import Figure

from monai_stochseg.distributions.arguments import check_arguments

_BINS = 20
_ROUNDING = 1e-6  # shares are sums of weights


@check_arguments
def plot_ambiguity(fractions: torch.Tensor, threshold: float | None = None, title: str | None = None) -> Figure:
    """
    Plot histograms of the share of each image's samples that are empty, of the images on which raters agree whether
    the structure is there and of those on which they do not (Kohl et al. 2018, https://arxiv.org/abs/1806.05034,
    appendix E).

    Args:
        fractions: ``[items, 2]``, the share of empty samples and of empty raters, as
            :py:meth:`monai_stochseg.metrics.EmptyFractionCorrelationMetric.fractions` gives them. An item with an
            undefined value (NaN) is left out.
        threshold: of :py:class:`monai_stochseg.metrics.AmbiguityAccuracyMetric`; an image between the two lines, at
            it and at 1 less it, is predicted to be ambiguous. Default: no lines.
        title: stands above the figure.

    Raises:
        ValueError: when ``fractions`` has another shape, or ``threshold`` is outside [0, 0.5).
    """
    if fractions.ndim != 2 or fractions.shape[1] != 2:
        raise ValueError(f"fractions must have shape [items, 2], got {tuple(fractions.shape)}.")
    if threshold is not None and not 0 <= threshold < 0.5:
        raise ValueError(f"threshold must lie in [0, 0.5), got {threshold}.")
    samples, raters = fractions[~fractions.isnan().any(1)].double().cpu().unbind(1)
    kinds = {
        "all raters show it": (raters <= _ROUNDING, "tab:blue"),
        "raters disagree": ((raters > _ROUNDING) & (raters < 1 - _ROUNDING), "tab:orange"),
        "no rater shows it": (raters >= 1 - _ROUNDING, "tab:grey"),
    }
    shown = [(name, *kind) for name, kind in kinds.items() if kind[0].any()]
    figure = Figure(figsize=(6, 1 + 1.4 * max(len(shown), 1)), layout="constrained")
    axes = figure.subplots(max(len(shown), 1), 1, sharex=True, squeeze=False)[:, 0]
    for ax, (name, chosen, colour) in zip(axes, shown, strict=False):
        ax.hist(samples[chosen].numpy(), bins=_BINS, range=(0, 1), color=colour)
        ax.set_title(f"{name}: {int(chosen.sum())} images", fontsize=10, loc="left")
    for ax in axes:
        for x in () if threshold is None else (threshold, 1 - threshold):
            ax.axvline(x, color="black", linestyle="--", linewidth=1)
        ax.set(xlim=(-0.01, 1.01), ylabel="images")
        ax.spines[["top", "right"]].set_visible(False)
    axes[-1].set_xlabel("share of the samples that are empty")
    if title is not None:
        figure.suptitle(title, fontsize=10)
    return figure
