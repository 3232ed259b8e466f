# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, to_rgba, to_rgba_array
from matplotlib.figure import Figure

from monai_stochseg.distributions import weights_of
from monai_stochseg.distributions.arguments import check_arguments, check_axes, check_option
from monai_stochseg.metrics.label_maps import check_integers
from monai_stochseg.transforms import PredictiveEntropy

# Background is transparent; then the qualitative palette of ColorBrewer "Set1", distinct for most colour-blind readers.
PALETTE = ["#00000000", "#377eb8", "#4daf4a", "#e41a1c", "#ff7f00", "#984ea3", "#ffff33", "#a65628", "#f781bf"]


@check_arguments
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
    max_raters: int | None = None,
    colours: Sequence[str] | None = None,
    calibration: torch.Tensor | None = None,
) -> Figure:
    """
    Plot one case: image, raters, mean prediction, entropy, samples. With a calibration output, as Kassapis et
    al. 2021 (https://arxiv.org/abs/2006.13144) show it: image, raters, their mean, calibration output, mean of the
    samples, samples; the three means as mixtures of the classes' colours, on white.

    A volume is shown in the slice along its last axis in which raters and samples have most foreground. A map with no
    foreground there says so. Of samples or raters with weights the most probable ones are shown, the first of them
    first, with their weights.

    Args:
        image: ``[C_in, *S]``.
        samples: label maps ``[N, *S]``; they may carry weights, see
            :py:func:`monai_stochseg.distributions.with_weights`.
        probabilities: marginal class probabilities ``[C, *S]``; the most probable class is shown, more opaque where
            its probability is higher.
        raters: label maps ``[R, *S]``; they may carry weights too.
        class_names: names of the C classes, for the legend.
        channel: channel of the image that is shown.
        max_samples: number of samples that are shown; default: one row of them.
        indexing: how the first two spatial axes are shown. ``"xy"``: rightwards and upwards, as a NIfTI image's;
            ``"ij"``: rows downwards and columns rightwards, as a DICOM image's or a photograph's.
        title: stands above the figure.
        max_raters: number of raters that are shown; default: all.
        colours: of the C classes, in matplotlib's notation. Default: of up to 9, the background transparent.
        calibration: class probabilities ``[C, *S]`` that the samples' mean is to equal.

    Raises:
        ValueError: when the spatial shapes differ or are not 2D or 3D, a label is no integer, there are fewer colours
            than classes, or ``indexing`` is unknown.
    """
    rater_weights = None if raters is None else weights_of(raters)
    check_axes("label maps [N, *S] with 2 or 3 axes S", 3, samples=samples)
    samples, sample_names = _most_probable("sample", samples, weights_of(samples))
    rater_names: list[str] = []
    num_classes = probabilities.shape[0]
    means = {} if calibration is None else {"calibration output": calibration, "mean of samples": probabilities}
    if means and raters is not None:
        means = {"mean of raters": _frequency(raters, rater_weights, num_classes), **means}
    if raters is not None:
        raters, rater_names = _most_probable("rater", raters, rater_weights)
        raters = raters[:max_raters]
        check_integers("raters", raters)
    check_integers("samples", samples)
    maps = samples if raters is None else torch.cat([raters.to(samples), samples])
    shape = samples.shape[1:]
    given = [probabilities, *means.values()]
    if len(shape) not in (2, 3) or image.shape[1:] != shape or any(x.shape[1:] != shape for x in given):
        raise ValueError(
            f"image {tuple(image.shape)}, samples {tuple(samples.shape)} and probabilities "
            f"{[tuple(x.shape) for x in given]} must share 2 or 3 spatial axes."
        )
    palette = list(PALETTE if colours is None else colours)
    if num_classes > len(palette):
        raise ValueError(f"plot_samples has colours for {len(palette)} classes, got {num_classes}: give colours.")
    palette = palette[:num_classes]
    entropy = PredictiveEntropy()(probabilities)
    tensors = [image[channel : channel + 1], maps, probabilities, entropy, *means.values()]
    if len(shape) == 3:
        best = int((maps > 0).sum((0, 1, 2)).argmax())
        tensors = [x[..., best] for x in tensors]
    picture, maps_, marginal, uncertainty, *mixtures = (orient(x, indexing) for x in tensors)
    num_raters = 0 if raters is None else len(raters)

    panels = [("image", None), *zip(rater_names, maps_[:num_raters], strict=False)]
    panels += (
        zip(means, mixtures, strict=True) if means else [("mean prediction", marginal), ("entropy", uncertainty[0])]
    )
    columns = max(len(panels), 5)
    shown = maps_[num_raters:][: columns if max_samples is None else max_samples]
    rows = max(1, math.ceil(len(shown) / (1.25 * columns)))  # a few more columns avoid a last row of a few samples
    columns = max(columns, math.ceil(len(shown) / rows))
    panels += [("", None)] * (columns - len(panels))
    panels += zip(sample_names, shown, strict=False)
    rows = -(-len(panels) // columns)
    names = dict(zip(class_names or [f"class {c}" for c in range(num_classes)], palette, strict=False))
    names = {name: colour for name, colour in names.items() if to_rgba(colour)[3] > 0}
    legend_rows = math.ceil(len(names) / columns)
    height = 1.7 * picture.shape[1] / picture.shape[2] + 0.2
    figure = Figure(figsize=(1.7 * columns, height * rows + 0.15 + 0.2 * legend_rows), layout="constrained")
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
        elif name in means:
            _mix(ax, panel, palette)
        elif panel is not None and panel.ndim == 3:
            overlay(ax, panel.argmax(0), num_classes, alpha=panel.max(0), colours=palette)
        elif panel is not None:
            overlay(ax, panel, num_classes, colours=palette)
    handles = [axes[0].plot([], [], "s", color=colour)[0] for colour in names.values()]
    ncols = math.ceil(len(names) / legend_rows)
    figure.legend(handles, list(names), loc="outside lower center", ncols=ncols, fontsize=9, frameon=False)
    return figure


def _most_probable(name: str, maps: torch.Tensor, weights: torch.Tensor | None) -> tuple[torch.Tensor, list[str]]:
    """The maps ``[K, *S]`` in the order in which they are shown, and what stands above each."""
    if weights is None:
        return maps, [f"{name} {i + 1}" for i in range(len(maps))]
    order = weights.argsort(descending=True, stable=True)
    order = order[weights[order] > 0]  # a missing rater has nothing to show
    return maps[order], [
        f"{name} {i + 1}: {weight:.0%}" for i, weight in zip(order.tolist(), weights[order].tolist(), strict=True)
    ]


def _frequency(raters: torch.Tensor, weights: torch.Tensor | None, num_classes: int) -> torch.Tensor:
    """How often raters ``[R, *S]`` give each class, ``[C, *S]``."""
    raters = raters.as_subclass(torch.Tensor)
    shares = torch.full((len(raters),), 1 / len(raters)) if weights is None else weights.float().cpu()
    return torch.stack([torch.tensordot(shares, (raters == c).float().cpu(), 1) for c in range(num_classes)])


def _mix(ax: Axes, probabilities: np.ndarray, colours: Sequence[str]) -> None:
    """Draw class probabilities ``[C, rows, columns]`` as mixtures of the colours, a transparent one being white."""
    rgba = to_rgba_array(colours)
    ax.imshow((1 - np.einsum("cij,ck->ijk", probabilities, (1 - rgba[:, :3]) * rgba[:, 3:])).clip(0, 1))


def orient(x: torch.Tensor, indexing: str) -> np.ndarray:
    """Slices ``[K, *S]`` as pictures ``[K, rows, columns]``, see :py:func:`plot_samples`."""
    pictures = x.detach().cpu().numpy()
    return np.rot90(pictures, axes=(1, 2)) if check_option("indexing", indexing, ("xy", "ij")) == "xy" else pictures


def overlay(
    ax: Axes,
    labels: np.ndarray,
    num_classes: int,
    alpha: np.ndarray | float = 1.0,
    extent: tuple[float, float, float, float] | None = None,
    colours: Sequence[str] = PALETTE,
) -> None:
    """
    Draw a label map ``[rows, columns]`` on axes; a class whose colour is transparent, such as the background, and void
    labels show nothing, and a map without anything else says so.
    """
    rgba = ListedColormap(colours[:num_classes]).with_extremes(over="#00000000")(labels.astype(int))
    rgba[..., 3] *= 0.75 * alpha
    ax.imshow(rgba, extent=extent)
    if not rgba[..., 3].any():
        box = {"facecolor": "black", "alpha": 0.5, "linewidth": 0, "pad": 2}
        ax.text(0.5, 0.06, "empty", transform=ax.transAxes, fontsize=8, color="white", ha="center", bbox=box)
