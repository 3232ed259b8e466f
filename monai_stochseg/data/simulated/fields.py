# SPDX-License-Identifier: Apache-2.0
"""What a simulated CT is made of: random fields and tubes, defined at every point and drawn on any grid."""

from __future__ import annotations

import hashlib

import numpy as np
from scipy.special import ndtr

Axes = tuple[np.ndarray, ...]  # coordinates in mm of a grid's rows, columns and slices


def random_generator(*key: str | int) -> np.random.Generator:
    """A separate generator for each key, the same on every machine with the same NumPy."""
    digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    return np.random.default_rng(np.random.SeedSequence(int.from_bytes(digest[:16], "little")))


def directions(rng: np.random.Generator, n: int, mean: np.ndarray | None = None, spread: float = 1.0) -> np.ndarray:
    """Unit vectors ``[n, 3]``, uniform over all directions or scattered around a mean one."""
    vectors = spread * rng.standard_normal((n, 3)) + (0.0 if mean is None else mean)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def linear(vector: np.ndarray, axes: Axes) -> np.ndarray:
    """Scalar product of the grid's points with a vector, ``[*spatial_size]``."""
    x, y, z = axes
    return vector[0] * x[:, None, None] + vector[1] * y[:, None] + vector[2] * z


def distance_from(point: np.ndarray, axes: Axes) -> np.ndarray:
    """Distance of the grid's points from a point in mm, ``[*spatial_size]``."""
    x, y, z = (np.square(axis - at) for axis, at in zip(axes, point, strict=True))
    return np.sqrt(x[:, None, None] + y[:, None] + z)


class RandomField:
    """
    A smooth random field of zero mean and unit variance: a sum of waves of random direction, length and phase.

    Args:
        rng: source of the draws.
        shortest: smallest wave length in mm.
        longest: greatest wave length in mm; lengths between are equally likely on a logarithmic scale.
        waves: number of waves.
    """

    def __init__(self, rng: np.random.Generator, shortest: float, longest: float, waves: int = 96) -> None:
        lengths = np.exp(rng.uniform(np.log(shortest), np.log(longest), (waves, 1)))
        self.wave = 2 * np.pi / lengths * directions(rng, waves)
        self.phase = rng.uniform(0, 2 * np.pi, waves)

    def __call__(self, axes: Axes) -> np.ndarray:
        """Values on a grid, ``[*spatial_size]`` float32."""
        # a wave of three variables is a product of three of one
        rows, columns, slices = (
            np.exp(1j * np.outer(axis, wave).astype(np.float32)) for axis, wave in zip(axes, self.wave.T, strict=True)
        )
        slices = slices * (np.exp(1j * self.phase) * np.sqrt(2 / len(self.phase))).astype(np.complex64)
        planes = (rows[:, None] * slices).reshape(-1, len(self.phase))
        field = (planes @ columns.T).real
        return field.reshape(len(axes[0]), len(axes[2]), len(axes[1])).swapaxes(1, 2)


def coverage(distance: np.ndarray, blur: np.ndarray | float) -> np.ndarray:
    """How much of a blurred point lies within a body, from the signed distance (negative inside) and blur in mm."""
    return ndtr(-distance / blur).astype(np.float32)


def tubes(segments: np.ndarray, axes: Axes, blur: float) -> np.ndarray:
    """
    Coverage of tapering tubes.

    Args:
        segments: ``[N, 8]``: two end points in mm and the radii there.
        axes: of the grid.
        blur: in mm.

    Returns:
        ``[*spatial_size]`` float32 in [0, 1].
    """
    covered = np.zeros(tuple(map(len, axes)), dtype=np.float32)
    starts, ends, radii = segments[:, :3], segments[:, 3:6], segments[:, 6:]
    reach = radii.max(1) + 2.5 * blur
    low, high = np.minimum(starts, ends) - reach[:, None], np.maximum(starts, ends) + reach[:, None]
    first = np.stack([np.searchsorted(axis, low[:, i]) for i, axis in enumerate(axes)], 1)
    last = np.stack([np.searchsorted(axis, high[:, i], side="right") for i, axis in enumerate(axes)], 1)
    for index in np.flatnonzero((last > first).all(1)):
        box = tuple(map(slice, first[index], last[index]))
        part = tuple(axis[side] for axis, side in zip(axes, box, strict=True))
        along = ends[index] - starts[index]
        length = float(np.linalg.norm(along))
        forward = linear(along / length, part) - starts[index] @ along / length
        nearest = np.clip(forward, 0, length)  # point of the axis, counted from its start
        # in the triangle of start, nearest point and voxel, two sides and the projection of one on the other are known
        square = np.square(distance_from(starts[index], part)) + nearest * (nearest - 2 * forward)
        radius = radii[index, 0] + nearest / length * (radii[index, 1] - radii[index, 0])
        np.maximum(covered[box], coverage(np.sqrt(np.maximum(square, 0)) - radius, blur), out=covered[box])
    return covered
