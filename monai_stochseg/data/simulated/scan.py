# SPDX-License-Identifier: Apache-2.0
"""A simulated scan whose readers draw the border of each structure slightly differently, in a known way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import ArrayLike

from .fields import Axes, coverage


@dataclass(frozen=True)
class SimulatedScan:
    r"""
    A simulated patient, and the distribution its readers are drawn from.

    For each class :math:`c = 1, \dots, C - 1` a reader draws a border offset :math:`\delta_c \sim N(0, \sigma_c^2)`
    in mm. With :math:`\phi_c` the signed distance to the structure's mean border, negative inside, a voxel gets the
    highest class with :math:`\phi_c < \delta_c`, and background where no class qualifies: later structures are drawn
    over earlier ones. So all probabilities have a closed form.

    Args:
        image: ``[1, *S]`` float32, in whole numbers as scanners write them.
        label: ``[R, *S]`` uint8, the readings of R raters.
        distances: ``[C - 1, *S]`` float32, signed distances in mm, to first order.
        sigmas: ``[C - 1]``, standard deviations of the border offsets in mm.
        spacing: of the voxels in mm, one per axis.
    """

    image: torch.Tensor
    label: torch.Tensor
    distances: torch.Tensor
    sigmas: torch.Tensor
    spacing: tuple[float, ...]

    @property
    def probability(self) -> torch.Tensor:
        """Probability of each class in each voxel, ``[C, *S]``, float32."""
        left = torch.ones_like(self.distances[0], dtype=torch.float64)  # probability that no higher class is there
        probabilities = []
        for distance, sigma in zip(self.distances.flip(0), self.sigmas.flip(0), strict=True):
            within = torch.special.ndtr(-distance.double() / sigma)
            probabilities.append(left * within)
            left = left * (1 - within)
        return torch.stack([left, *reversed(probabilities)]).float()

    def sample(self, n: int, generator: torch.Generator | None = None) -> torch.Tensor:
        """
        Draw readings.

        Args:
            n: number of readers.
            generator: source of the draws.

        Returns:
            ``[n, *S]`` uint8.
        """
        offsets = self.sigmas * torch.randn((n, len(self.sigmas)), generator=generator)
        readings = torch.zeros((n, *self.distances.shape[1:]), dtype=torch.uint8)
        for reading, reader in zip(readings, offsets, strict=True):
            for number, (distance, offset) in enumerate(zip(self.distances, reader, strict=True), 1):
                reading[distance < offset] = number
        return readings


def read_scan(
    image: np.ndarray,
    distances: Sequence[np.ndarray],
    sigmas: np.ndarray,
    spacing: Sequence[float],
    num_raters: int,
    seed: int,
) -> SimulatedScan:
    """
    Simulate the readings of an image.

    Args:
        image: ``[*S]``, rounded to whole numbers.
        distances: of each class but the background, ``[*S]`` in mm.
        sigmas: ``[C - 1]``, standard deviations of the border offsets in mm.
        spacing: of the voxels in mm.
        num_raters: number of readings.
        seed: of the readers' offsets.

    Returns:
        The patient.

    Raises:
        ValueError: when there is no rater.
    """
    if num_raters < 1:
        raise ValueError(f"num_raters must be at least 1, got {num_raters}.")
    scan = SimulatedScan(
        image=torch.from_numpy(np.rint(image).astype(np.float32))[None],
        label=torch.empty(0, dtype=torch.uint8),
        distances=torch.from_numpy(np.stack(distances).astype(np.float32)),
        sigmas=torch.from_numpy(sigmas).float(),
        spacing=tuple(map(float, spacing)),
    )
    return replace(scan, label=scan.sample(num_raters, torch.Generator().manual_seed(seed)))


def scan_axes(spatial_size: Sequence[int], spacing: Sequence[float], least_extent: Sequence[float]) -> Axes:
    """
    Coordinates in mm of a volume's voxels, zero in its middle.

    Args:
        spatial_size: size in voxels, 3 axes.
        spacing: of the voxels in mm.
        least_extent: smallest size in mm that holds the anatomy.

    Returns:
        The coordinates along each axis.

    Raises:
        ValueError: when ``spatial_size`` or ``spacing`` has not 3 positive entries, or the volume is too small.
    """
    for name, value in (("spatial_size", spatial_size), ("spacing", spacing)):
        if len(value) != 3 or min(value) <= 0:
            raise ValueError(f"{name} must be 3 positive numbers, got {list(value)}.")
    extent = [length * step for length, step in zip(spatial_size, spacing, strict=True)]
    if any(one < least for one, least in zip(extent, least_extent, strict=True)):
        raise ValueError(
            f"spatial_size times spacing must be at least {list(least_extent)} mm to hold the anatomy, got {extent}."
        )
    return tuple((np.arange(n) - (n - 1) / 2) * step for n, step in zip(spatial_size, spacing, strict=True))


def ellipsoid(axes: Axes, center: ArrayLike, radii: ArrayLike, turn: float = 0.0) -> np.ndarray:
    """
    Signed distance to an ellipsoid in mm, to first order; negative inside.

    Args:
        axes: coordinates of the grid in mm.
        center: in mm.
        radii: half lengths of its three axes in mm; infinite ones make a cylinder.
        turn: angle in radians by which it is turned in the plane of the first and the last axis.

    Returns:
        ``[*S]`` float32.
    """
    lengths = np.asarray(radii, dtype=np.float32)
    shifted = [(axis - at).astype(np.float32) for axis, at in zip(axes, np.asarray(center), strict=True)]
    first, second, last = np.meshgrid(*shifted, indexing="ij", sparse=True)
    cosine, sine = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    turned = (cosine * first - sine * last, second, sine * first + cosine * last)
    squares = [np.square(offset / length) for offset, length in zip(turned, lengths, strict=True)]
    radius = np.sqrt(squares[0] + squares[1] + squares[2])  # 1 on the surface
    slope = np.sqrt(sum(square / length**2 for square, length in zip(squares, lengths, strict=True)))
    return np.where(radius > 0, radius * (radius - 1) / np.maximum(slope, 1e-6), -lengths.min())


def paint(image: np.ndarray, distance: np.ndarray, blur: float, value: np.ndarray | float) -> None:
    """
    Draw a body over an image, in place.

    Args:
        image: ``[*S]``.
        distance: signed distance to the body in mm, ``[*S]``.
        blur: standard deviation of its edge in mm.
        value: of the body, one or ``[*S]``.
    """
    reached = distance < 4 * blur
    before = image[reached]
    image[reached] += coverage(distance[reached], blur) * (np.broadcast_to(value, image.shape)[reached] - before)
