# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence

import torch
from matplotlib.figure import Figure

from monai_stochseg.distributions import LowRankNormal
from monai_stochseg.distributions.arguments import check_arguments, check_axes
from monai_stochseg.visualize.samples import PALETTE, orient, overlay


@check_arguments
def plot_scaled_samples(
    image: torch.Tensor,
    distribution: LowRankNormal,
    scales: Sequence[float] = (-3, -2, -1, 0, 1, 2, 3),
    class_names: Sequence[str] | None = None,
    num_ranks: int = 0,
    channel: int = 0,
    indexing: str = "xy",
    seed: int = 0,
    title: str | None = None,
) -> Figure:
    """
    Plot one sample whose deviation from the mean is scaled, as figure 6 of Monteiro et al. 2020
    (https://arxiv.org/abs/2006.06015): a row of the whole deviation (temperature), a row of each class but the
    background, whose deviation alone is scaled, and rows of columns of the factor. 0 in the first row is the mean.

    Args:
        image: ``[C_in, *S]``. A volume is shown in the slice along its last axis in which the maps have most
            foreground.
        distribution: of this image alone, of batch size 1.
        scales: a column each.
        class_names: names of the C classes.
        num_ranks: columns of the factor, from the first, which have a row each.
        channel: channel of the image that is shown.
        indexing: see :py:func:`plot_samples`.
        seed: of the sample.
        title: stands above the figure.

    Raises:
        ValueError: when the distribution is of several images or another grid, it has fewer ranks, or there are more
            classes than colours.
    """
    batch, num_classes, *shape = distribution.mean.shape
    check_axes("[C_in, *S]", 3, image=image)
    if batch != 1 or tuple(image.shape[1:]) != tuple(shape):
        raise ValueError(
            f"distribution must be that of image {tuple(image.shape)} alone, got a mean of "
            f"{tuple(distribution.mean.shape)}."
        )
    if not 0 <= num_ranks <= distribution.rank:
        raise ValueError(f"num_ranks must lie in [0, {distribution.rank}], got {num_ranks}.")
    if num_classes > len(PALETTE):
        raise ValueError(f"distribution has {num_classes} classes, there are colours for {len(PALETTE)}.")
    names = list(class_names or [f"class {c}" for c in range(num_classes)])
    rows: list[tuple[str, str, int]] = [("all", "temperature", 0)]
    rows += [(names[c], "class_scale", c) for c in range(1, num_classes)]
    rows += [(f"rank {r + 1}", "rank_scale", r) for r in range(num_ranks)]
    maps = torch.stack(
        [torch.stack([_sample(distribution, kind, place, s, seed) for s in scales]) for _, kind, place in rows]
    )
    picture = image[channel : channel + 1]
    if len(shape) == 3:
        best = int((maps > 0).sum((0, 1, 2, 3)).argmax())
        picture, maps = picture[..., best], maps[..., best]
    shown = orient(picture, indexing)[0]
    size = 1.4 * shown.shape[0] / shown.shape[1] + 0.15
    figure = Figure(figsize=(1.4 * len(scales) + 0.6, size * len(rows) + 0.2), layout="constrained")
    if title is not None:
        figure.suptitle(title, fontsize=10)
    axes = figure.subplots(len(rows), len(scales), squeeze=False)
    for ax, scale in zip(axes[0], scales, strict=True):
        ax.set_title(f"{scale:g}", fontsize=9)
    for (name, _, _), line, labels in zip(rows, axes, maps, strict=True):
        line[0].set_ylabel(name, fontsize=9)
        for ax, label in zip(line, orient(labels, indexing), strict=True):
            ax.set_xticks([])
            ax.set_yticks([])
            ax.imshow(shown, cmap="gray")
            overlay(ax, label, num_classes)
    return figure


def _sample(distribution: LowRankNormal, kind: str, place: int, scale: float, seed: int) -> torch.Tensor:
    """The label map of the one sample of the seed, ``[*S]``."""
    values: dict[str, float | list[float]] = {"temperature": scale}
    if kind != "temperature":
        values = {kind: [1.0] * (distribution.mean.shape[1] if kind == "class_scale" else distribution.rank)}
        values[kind][place] = scale  # type: ignore[index]
    generator = torch.Generator().manual_seed(seed)
    return distribution.scaled(**values).sample_logits(1, generator)[0, 0].argmax(0).cpu()  # type: ignore[arg-type]
