# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from monai.networks.utils import eval_mode
from scipy.ndimage import distance_transform_cdt, label

from monai_stochseg.distributions.arguments import check_arguments
from monai_stochseg.metrics import LabelMapDistance
from monai_stochseg.metrics.label_maps import check_integers
from monai_stochseg.metrics.mode_frequency import nearest_modes
from monai_stochseg.networks.nets import ProbabilisticUNet

from .latent_plane import check_plane, class_colours, draw_axes, draw_tiles, maps_of_plane
from .samples import orient

# 60 colours; further modes repeat them.
_MODE_COLOURS = [colour for name in ("tab20", "tab20b", "tab20c") for colour in colormaps[name].colors]


@check_arguments
def plot_latent_modes(
    network: ProbabilisticUNet,
    image: torch.Tensor,
    modes: torch.Tensor,
    distance: LabelMapDistance,
    dims: Sequence[int] = (0, 1),
    grid: int = 15,
    extent: float = 3.0,
    colours: Sequence[str] | None = None,
    indexing: str = "ij",
    title: str | None = None,
) -> Figure:
    """
    Plot which mode of a known truth each point of a plane of a Probabilistic U-Net's latent space decodes to, for one
    image (Kohl et al. 2018, https://arxiv.org/abs/1806.05034, figure 7).

    The plane is that of :py:func:`~.latent_plane.plot_latent_plane`. Each latent's most probable classes belong to the
    nearest mode, see :py:func:`monai_stochseg.metrics.compute_mode_frequency`. On the left each latent is a square in
    the colour of its mode, and each region of one mode has its number; on the right are the class maps, as squares. The
    legend gives the modes' shares of the plane, weighted by the prior's density.

    Args:
        network: the trained network, on the device of the image; evaluated in evaluation mode.
        image: ``[C_in, *S]``. Of a volume the middle slice along its last axis is shown on the right.
        modes: all modes ``[M, *S]``, such as :py:func:`monai_stochseg.transforms.class_switch_modes` lists them.
        distance: between two label maps; its ``classes`` are those that may be switched, and what they become.
        dims: the two dimensions of the latent; the others stay at the prior's mean.
        grid: number of latents along each dimension.
        extent: half the side of the plane, in deviations of the prior.
        colours: of the C classes, see :py:func:`~.samples.plot_samples`.
        indexing: see :py:func:`~.samples.plot_samples`.
        title: stands above the figure.

    Raises:
        ValueError: when the image is not 2D or 3D, the modes are no integers, fewer than two or of another size, an
            option is out of range, or there are fewer colours than classes.
    """
    dims = check_plane(network, image, dims, grid, extent)
    palette = class_colours(network, colours)
    check_integers("modes", modes)
    if len(modes) < 2 or modes.shape[1:] != image.shape[1:]:
        raise ValueError(
            f"modes must be [M, *S] of the image {tuple(image.shape)}, at least 2, got {tuple(modes.shape)}."
        )
    ticks = torch.linspace(-extent, extent, grid)
    modes, tiles, nearest = modes.to(image.device), [], []
    with eval_mode(network):
        for labels in maps_of_plane(network.predictive(image[None]), dims, ticks):
            nearest.append(int(nearest_modes(labels[None], modes, distance)))
            tiles.append(labels[..., labels.shape[-1] // 2] if labels.ndim == 3 else labels)
    plane = np.array(nearest).reshape(grid, grid)
    density = np.exp(-0.5 * ticks.double().numpy() ** 2)
    weights = np.outer(density, density)
    shares = np.bincount(plane.ravel(), weights.ravel(), minlength=len(modes)) / weights.sum()
    figure = Figure(figsize=(13, 6.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    _draw_modes(left, plane, extent)
    draw_tiles(right, orient(torch.stack(tiles), indexing), extent, palette)
    for ax in (left, right):
        draw_axes(ax, dims)
    order = np.argsort(-shares.round(9), kind="stable")  # sums of equal shares differ beyond
    met = [mode for mode in order if shares[mode] > 0]
    handles = [Patch(color=_colour(mode), label=f"mode {mode}: {100 * shares[mode]:.1f} %") for mode in met]
    figure.legend(handles=handles, loc="outside right upper", fontsize=8, frameon=False)
    if title is not None:
        figure.suptitle(title, fontsize=10)
    return figure


def _colour(mode: int) -> tuple[float, float, float]:
    return _MODE_COLOURS[mode % len(_MODE_COLOURS)]


def _draw_modes(ax: Axes, plane: np.ndarray, extent: float) -> None:
    """Draw modes ``[G, G]``, the second dimension first, with a number in each connected region."""
    grid = len(plane)
    half = extent * grid / (grid - 1)  # squares are centred on their latents
    picture = np.array([[_colour(mode) for mode in row] for row in plane])
    ax.imshow(picture, origin="lower", extent=(-half, half, -half, half))
    ticks = np.linspace(-extent, extent, grid)
    for mode in np.unique(plane):
        regions, number = label(plane == mode)
        for region in range(1, number + 1):
            inside = np.pad(regions == region, 1)
            depth = distance_transform_cdt(inside, metric="chessboard")[1:-1, 1:-1]
            row, column = np.unravel_index(depth.argmax(), depth.shape)
            box = {"facecolor": "white", "alpha": 0.7, "linewidth": 0, "pad": 1}
            ax.text(ticks[column], ticks[row], str(mode), ha="center", va="center", fontsize=7, bbox=box)
