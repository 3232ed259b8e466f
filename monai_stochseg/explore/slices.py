# SPDX-License-Identifier: Apache-2.0
"""Planes of a case as PNG, for the report."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
from PIL import Image

from monai_stochseg.explore.opened_case import OpenedCase
from monai_stochseg.explore.served import drawn_affine, drawn_grid, drawn_shape

__all__ = ["Plane", "grey_png", "heat_png", "label_png", "planes"]

_PLANES = ("sagittal", "coronal, right on the left", "axial, right on the left")
_WINDOW = (1, 99)  # percentiles that become black and white


class Plane(NamedTuple):
    """
    One plane through the focus, of the grid that is drawn.

    Args:
        name: in words; ``image`` in 2D.
        axis: which is held fixed.
        place: on that axis.
        pixels: their number to the right and down.
        size: of a pixel to the right and down.
    """

    name: str
    axis: int
    place: int
    pixels: tuple[int, int]
    size: tuple[float, float]


def planes(case: OpenedCase, focus: Sequence[int]) -> list[Plane]:
    """
    The planes of a case: axial, coronal and sagittal through the focus, or the one of a 2D image.

    Args:
        case: that is open.
        focus: voxel on the grid that is drawn.
    """
    shape, sizes = drawn_shape(case), np.linalg.norm(drawn_affine(case)[:3, :3], axis=0)
    found = []
    for axis in (2, 1, 0) if case.record.spatial_dims == 3 else (2,):
        right, up = (other for other in range(3) if other != axis)
        name = _PLANES[axis] if case.record.spatial_dims == 3 else "image"
        size = (float(sizes[right]), float(sizes[up]))
        found.append(Plane(name, axis, focus[axis], (shape[right], shape[up]), size))
    return found


def cut(case: OpenedCase, values: np.ndarray, plane: Plane) -> np.ndarray:
    """The plane of the values ``[V]`` as rows from top to bottom, ``[H, W]``, of a volume as radiologists see it."""
    rows = drawn_grid(case, values).take(plane.place, axis=plane.axis).T[::-1]
    return np.asarray(rows[:, ::-1] if case.record.spatial_dims == 3 and plane.axis > 0 else rows)


def grey_png(case: OpenedCase, values: np.ndarray, plane: Plane) -> str:
    """A channel as a grey picture, a ``data:`` address; the window is that of the whole channel."""
    known = values[:: max(1, len(values) // 100_000)].astype(np.float64)
    low, high = np.percentile(known[np.isfinite(known)], _WINDOW) if np.isfinite(known).any() else (0.0, 1.0)
    grey = np.nan_to_num((cut(case, values, plane).astype(np.float64) - low) / max(high - low, 1e-12))
    return _address(Image.fromarray((grey.clip(0, 1) * 255).round().astype(np.uint8)))


def label_png(case: OpenedCase, labels: np.ndarray, plane: Plane, colours: Sequence[str]) -> str:
    """A label map in the classes' colours, the background transparent, a ``data:`` address."""
    picture = Image.fromarray(np.ascontiguousarray(cut(case, labels, plane), dtype=np.uint8), mode="P")
    palette = [int(colour[i : i + 2], 16) for colour in colours for i in (1, 3, 5)]
    picture.putpalette(palette + [0] * (768 - len(palette)))
    opaque = bytes([0] + [255] * (len(colours) - 1) + [0] * (256 - len(colours)))
    return _address(picture, transparency=opaque)


def heat_png(case: OpenedCase, values: np.ndarray, plane: Plane, maximum: float) -> str:
    """A map of numbers in colours, transparent where it is 0, a ``data:`` address."""
    share = (cut(case, values, plane) / maximum).clip(0, 1)
    colours = (matplotlib.colormaps["inferno"](share) * 255).round().astype(np.uint8)
    colours[..., 3] = (share.clip(0, 0.1) * 10 * 255).astype(np.uint8)
    return _address(Image.fromarray(colours))


def _address(picture: Image.Image, **options: object) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, format="png", optimize=True, **options)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
