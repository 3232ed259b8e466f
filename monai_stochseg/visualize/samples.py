# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from monai.utils import look_up_option

from monai_stochseg.transforms import PredictiveEntropy

# Background is see-through; then the qualitative palette of ColorBrewer "Set1", distinct for most colour-blind readers.
_COLOURS = ["#00000000", "#377eb8", "#4daf4a", "#e41a1c", "#ff7f00", "#984ea3", "#ffff33", "#a65628", "#f781bf"]


def plot_samples(
    image: torch.Tensor,
    samples: torch.Tensor,
    probabilities: torch.Tensor,
    raters: torch.Tensor | None = None,
    class_names: Sequence[str] | None = None,
    channel: int = 0,
    max_samples: int | None = None,
    indexing: str = "xy",
    title: str | None = None,
) -> Figure:
    """
    One case at a glance: image, raters, mean prediction, entropy, samples.

    A volume is shown in the slice along its last axis in which raters and samples show most foreground. A map with no
    foreground there says so.

    Args:
        image: ``[C_in, *S]``.
        samples: label maps ``[N, *S]``.
        probabilities: marginal class probabilities ``[C, *S]``; their largest class is shown, as opaque as it is sure.
        raters: label maps ``[R, *S]``.
        class_names: names of the C classes, for the legend.
        channel: channel of the image that is shown.
        max_samples: number of samples that are shown; default: one row of them.
        indexing: how the first two spatial axes are shown. ``"xy"``: rightwards and upwards, as a NIfTI image's;
            ``"ij"``: rows downwards and columns rightwards, as a DICOM image's or a photograph's.
        title: stands above the figure.

    Raises:
        ValueError: when the spatial shapes differ or are not 2D or 3D, there are too many classes to colour, or
            ``indexing`` is unknown.
    """
    maps = samples if raters is None else torch.cat([raters.to(samples), samples])
    shape = samples.shape[1:]
    if len(shape) not in (2, 3) or image.shape[1:] != shape or probabilities.shape[1:] != shape:
        raise ValueError(
            f"image {tuple(image.shape)}, samples {tuple(samples.shape)} and probabilities "
            f"{tuple(probabilities.shape)} must share 2 or 3 spatial axes."
        )
    num_classes = probabilities.shape[0]
    if num_classes > len(_COLOURS):
        raise ValueError(f"plot_samples has colours for {len(_COLOURS)} classes, got {num_classes}.")
    entropy = PredictiveEntropy()(probabilities)
    tensors = [image[channel : channel + 1], maps, probabilities, entropy]
    if len(shape) == 3:
        best = int((maps > 0).sum((0, 1, 2)).argmax())
        tensors = [x[..., best] for x in tensors]
    picture, maps_, marginal, uncertainty = (orient(x, indexing) for x in tensors)
    num_raters = 0 if raters is None else len(raters)

    panels = [("image", None), *[(f"rater {i + 1}", maps_[i]) for i in range(num_raters)]]
    panels += [("mean prediction", marginal), ("entropy", uncertainty[0])]
    columns = max(len(panels), 5)
    shown = maps_[num_raters:][: columns if max_samples is None else max_samples]
    rows = max(1, math.ceil(len(shown) / (1.25 * columns)))  # a few columns more spare a last row of a few samples
    columns = max(columns, math.ceil(len(shown) / rows))
    panels += [("", None)] * (columns - len(panels))
    panels += [(f"sample {i + 1}", m) for i, m in enumerate(shown)]
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(1.7 * columns, 1.9 * rows + 0.35), layout="constrained")
    if title is not None:
        figure.suptitle(title, fontsize=10)
    axes = np.atleast_1d(figure.subplots(rows, columns)).ravel()
    for ax in axes:
        ax.set_axis_off()
    for ax, (name, panel) in zip(axes, panels, strict=False):
        if not name:
            continue
        ax.set_title(name, fontsize=9)
        ax.imshow(picture[0], cmap="gray")
        if name == "entropy":
            heat = ax.imshow(panel, cmap="magma", vmin=0, vmax=float(np.log(num_classes)))
            bar = figure.colorbar(heat, cax=ax.inset_axes((0.9, 0.05, 0.05, 0.45)))
            bar.ax.tick_params(labelsize=6, colors="white", length=2)
            bar.ax.set_title("nats", fontsize=6, color="white", pad=2)
            bar.ax.yaxis.set_ticks_position("left")
        elif panel is not None and panel.ndim == 3:
            overlay(ax, panel.argmax(0), num_classes, alpha=panel.max(0))
        elif panel is not None:
            overlay(ax, panel, num_classes)
    names = class_names or [f"class {c}" for c in range(num_classes)]
    handles = [axes[0].plot([], [], "s", color=_COLOURS[c])[0] for c in range(1, num_classes)]
    figure.legend(
        handles, names[1:num_classes], loc="outside lower center", ncols=num_classes - 1, fontsize=9, frameon=False
    )
    return figure


def orient(x: torch.Tensor, indexing: str) -> np.ndarray:
    """Slices ``[K, *S]`` as pictures ``[K, rows, columns]``, see :py:func:`plot_samples`."""
    pictures = x.detach().cpu().numpy()
    return np.rot90(pictures, axes=(1, 2)) if look_up_option(indexing, ("xy", "ij")) == "xy" else pictures


def overlay(
    ax: Axes,
    labels: np.ndarray,
    num_classes: int,
    alpha: np.ndarray | float = 1.0,
    extent: tuple[float, float, float, float] | None = None,
) -> None:
    """Draw a label map ``[rows, columns]`` on axes, the background see-through; one of background alone says so."""
    colours = ListedColormap(_COLOURS[:num_classes])
    rgba = colours(labels.astype(int))
    rgba[..., 3] *= 0.75 * alpha
    ax.imshow(rgba, extent=extent)
    if not labels.any():
        box = {"facecolor": "black", "alpha": 0.5, "linewidth": 0, "pad": 2}
        ax.text(0.5, 0.06, "empty", transform=ax.transAxes, fontsize=8, color="white", ha="center", bbox=box)
