# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Ellipse
from monai.networks.utils import eval_mode

from monai_stochseg.distributions import LatentDistribution
from monai_stochseg.distributions.arguments import check_arguments
from monai_stochseg.metrics.label_maps import check_integers
from monai_stochseg.networks.nets import ProbabilisticUNet

from .samples import PALETTE, orient, overlay

# Tiles are cut to the square in which more than this share of them has foreground, and this part of its side around it.
_LEAST_SHARE = 0.05
_MARGIN = 0.15


@check_arguments
def plot_latent_plane(
    network: ProbabilisticUNet,
    image: torch.Tensor,
    label: torch.Tensor | None = None,
    dims: Sequence[int] = (0, 1),
    grid: int = 19,
    extent: float | None = None,
    slice_index: int | None = None,
    channel: int = 0,
    indexing: str = "xy",
    colours: Sequence[str] | None = None,
) -> Figure:
    """
    Plot what a plane of a Probabilistic U-Net's latent space decodes to for one image, and where the raters lie in it
    (Kohl et al. 2018, figure 6).

    The plane runs through the prior's mean along two dimensions of the latent, in units of the prior's deviation; the
    other dimensions stay at the mean. It is tiled with the most probable classes of a grid of latents, all cut to one
    square about their foreground. Circles are drawn at 1, 2 and 3 deviations. Each rater's posterior is a point at its
    mean and an ellipse of one deviation, in the colour of the frame of the rater's map on the right.

    Args:
        network: the trained network, on the device of the image; evaluated in evaluation mode.
        image: ``[C_in, *S]``.
        label: the raters' label maps ``[R, *S]``; None: no posteriors are drawn.
        dims: the two dimensions of the latent.
        grid: number of latents along each dimension.
        extent: half the side of the plane, in deviations of the prior. Default: 3, or as far as the raters' means lie.
        slice_index: index along the last axis of a volume that is shown. Default: where raters, or else the prior's
            mean, have most foreground.
        channel: channel of the image that is shown.
        indexing: see :py:func:`~.samples.plot_samples`.
        colours: of the C classes, see :py:func:`~.samples.plot_samples`.

    Raises:
        ValueError: when the image is not 2D or 3D, a label is no integer or of another size, an option is out of
            range, or there are fewer colours than classes.
    """
    dims = check_plane(network, image, dims, grid, extent)
    palette = class_colours(network, colours)
    raters = torch.zeros(0, *image.shape[1:]) if label is None else label
    check_integers("label", raters)
    if raters.shape[1:] != image.shape[1:]:
        raise ValueError(f"label must be [R, *S] of the image, {tuple(image.shape)}, got {tuple(raters.shape)}.")
    with eval_mode(network):
        means, deviations = _posteriors(network, image, raters, dims)
        if extent is None:
            extent = max([3.0, *(1.05 * np.abs(means)).ravel().tolist()])
        ticks = torch.linspace(-extent, extent, grid)
        tiles, slice_index = _decode(network, image, raters, dims, ticks, slice_index)
    picture, raters = image[channel : channel + 1], raters.long()
    if slice_index is not None:
        picture, raters = picture[..., slice_index], raters[..., slice_index]

    rows = max(4, 1 + len(raters))
    figure = Figure(figsize=(8.2, 6.8), layout="constrained")
    cells = figure.add_gridspec(rows, 2, width_ratios=(rows, 1.15))
    ax = figure.add_subplot(cells[:, 0])
    draw_tiles(ax, orient(tiles, indexing), extent, palette)
    draw_axes(ax, dims)

    shown = orient(picture, indexing)[0]
    side = figure.add_subplot(cells[0, 1])
    side.imshow(shown, cmap="gray")
    side.set_title("image", fontsize=9)
    side.set_axis_off()
    for i, rater in enumerate(orient(raters, indexing)):
        colour = colormaps["Dark2"](i % 8)
        points = max(3, 13 - 3 * i)  # later points are smaller: those of raters who drew the same overlap
        width, height = 2 * deviations[i]
        ax.add_patch(Ellipse(tuple(means[i]), width, height, fill=False, color=colour, linewidth=points / 3))
        ax.plot(*means[i], "o", color=colour, markeredgecolor="white", markeredgewidth=0.5, markersize=points)
        side = figure.add_subplot(cells[1 + i, 1])
        side.imshow(shown, cmap="gray")
        overlay(side, rater, network.out_channels, colours=palette)
        side.set_title(f"rater {i + 1}", fontsize=9)
        side.set_xticks([])
        side.set_yticks([])
        for spine in side.spines.values():
            spine.set(color=colour, linewidth=3)
    return figure


def _posteriors(
    network: ProbabilisticUNet, image: torch.Tensor, raters: torch.Tensor, dims: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Means and deviations ``[R, 2]`` of the raters' posteriors, in the plane's units."""
    prior_mean, prior_log_std = network.prior(image[None])
    means, deviations = [], []
    for rater in raters:
        mean, log_std = network.posterior(image[None], rater[None, None].to(image.device))
        means.append((mean - prior_mean) / prior_log_std.exp())
        deviations.append((log_std - prior_log_std).exp())
    if not means:
        return np.zeros((0, 2)), np.zeros((0, 2))
    return torch.cat(means)[:, dims].cpu().numpy(), torch.cat(deviations)[:, dims].cpu().numpy()


def _decode(
    network: ProbabilisticUNet,
    image: torch.Tensor,
    raters: torch.Tensor,
    dims: Sequence[int],
    ticks: torch.Tensor,
    slice_index: int | None,
) -> tuple[torch.Tensor, int | None]:
    """Label maps ``[G * G, H, W]`` of the plane, the second dimension first, and the index of a volume's slice."""
    predictive = network.predictive(image[None])
    if image.dim() == 4 and slice_index is None:
        maps = raters if len(raters) else predictive.mode_logits().argmax(1)
        slice_index = int((maps > 0).sum((0, 1, 2)).argmax())
    maps_ = maps_of_plane(predictive, dims, ticks)
    tiles = [labels if slice_index is None else labels[..., slice_index] for labels in maps_]
    return torch.stack(tiles), slice_index


def maps_of_plane(predictive: LatentDistribution, dims: Sequence[int], ticks: torch.Tensor) -> Iterator[torch.Tensor]:
    """The label map ``[*S]`` of each latent, in the order of :py:func:`_decode`."""
    for second in ticks.tolist():
        offset = torch.zeros(1, len(ticks), predictive.mean.shape[1])
        offset[..., dims[0]], offset[..., dims[1]] = ticks, second
        latents = predictive.mean[:, None] + predictive.log_std.exp()[:, None] * offset.to(predictive.mean)
        # One at a time: the logits of a row of volumes would be large.
        for latent in latents.split(1, dim=1):
            yield predictive.decode(latent)[0, 0].argmax(0)


def check_plane(
    network: ProbabilisticUNet, image: torch.Tensor, dims: Sequence[int], grid: int, extent: float | None
) -> tuple[int, ...]:
    """The two dimensions; a ValueError where they, the grid, the extent or the image's axes are wrong."""
    dims = tuple(dims)
    if len(set(dims)) != 2 or not set(dims) <= set(range(network.latent_dim)):
        raise ValueError(f"dims must be two of the {network.latent_dim} dimensions of the latent, got {dims}.")
    if grid < 2:
        raise ValueError(f"grid must be at least 2, got {grid}.")
    if extent is not None and extent <= 0:
        raise ValueError(f"extent must be above 0, got {extent}.")
    if image.dim() not in (3, 4):
        raise ValueError(f"image must be [C_in, *S] with 2 or 3 spatial axes, got shape {tuple(image.shape)}.")
    return dims


def class_colours(network: ProbabilisticUNet, colours: Sequence[str] | None) -> list[str]:
    """The colour of each class; a ValueError where there are too few."""
    palette = list(PALETTE if colours is None else colours)
    if network.out_channels > len(palette):
        raise ValueError(f"colours must be of {network.out_channels} classes, got {len(palette)}: give colours.")
    return palette[: network.out_channels]


def draw_axes(ax: Axes, dims: Sequence[int]) -> None:
    """Circles of 1, 2 and 3 deviations, and the names of the axes."""
    for radius in (1, 2, 3):
        ax.add_patch(Circle((0, 0), radius, fill=False, color="black", linestyle="--", linewidth=1))
    ax.plot(0, 0, "+", color="black", markersize=10)
    ax.set_xlabel(f"latent dimension {dims[0]} (deviations of the prior)")
    ax.set_ylabel(f"latent dimension {dims[1]} (deviations of the prior)")


def draw_tiles(ax: Axes, tiles: np.ndarray, extent: float, colours: Sequence[str]) -> None:
    """Draw label maps ``[G * G, H, W]``, cut to the square of their foreground, with the first at the lower left."""
    grid = round(len(tiles) ** 0.5)
    rows, columns = _foreground_box(tiles)
    tiles = np.pad(tiles[:, rows, columns], ((0, 0), (0, 1), (0, 1)), constant_values=-1)  # a line between tiles
    height, width = tiles.shape[1:]
    mosaic = tiles.reshape(grid, grid, height, width)[::-1].swapaxes(1, 2).reshape(grid * height, grid * width)
    half = extent * grid / (grid - 1)  # tiles are centred on their latents
    limits = (-half, half, -half, half)
    background = np.where(mosaic < 0, 0.75, 0.95)
    ax.imshow(background, cmap="gray", vmin=0, vmax=1, extent=limits)
    # a line belongs to no class
    overlay(ax, np.where(mosaic < 0, len(colours), mosaic), len(colours), extent=limits, colours=colours)
    ax.set_xlim(-half, half)
    ax.set_ylim(-half, half)


def _foreground_box(tiles: np.ndarray) -> tuple[slice, slice]:
    """Rows and columns of the square that holds the tiles' foreground, see above; all of them where there is none."""
    drawn = (tiles > 0).mean(0) > _LEAST_SHARE
    shape = drawn.shape
    if not drawn.any():
        return slice(shape[0]), slice(shape[1])
    limits = [np.flatnonzero(drawn.any(1 - axis))[[0, -1]] for axis in (0, 1)]
    side = max(high + 1 - low for low, high in limits)
    side += 2 * max(1, round(_MARGIN * side))
    box = []
    for (low, high), length in zip(limits, shape, strict=True):
        start = max(0, min((low + high + 1 - side) // 2, length - side))
        box.append(slice(start, start + side))
    return box[0], box[1]
