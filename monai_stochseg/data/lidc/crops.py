# SPDX-License-Identifier: Apache-2.0
"""Crops around nodules on their own grid, the same for a scan's voxels and for its readers' masks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.ndimage import affine_transform

from .nodules import LIDCNodule


@dataclass(frozen=True, eq=False)
class LIDCCrop:
    """
    An image around a nodule and the readers' masks of it; R is four in LIDC.

    Args:
        name: the nodule's name, in 2D with the slice of the scan, such as ``LIDC-IDRI-0078_0001_00_z066``; unique.
        patient_id: such as ``LIDC-IDRI-0078``; splits go by it.
        image: ``[*S]``.
        label: masks, bool ``[R, *S]``; empty for a reader who drew nothing there.
        drawn: which readers drew the nodule anywhere, bool ``[R]``.
        spacing: of the axes in mm.
        unit: of the image, ``"HU"``, or ``"window"`` for a window of HU that has been scaled to [0, 1].
        split: the part of a split that comes with the data, where there is one.
    """

    name: str
    patient_id: str
    image: np.ndarray
    label: np.ndarray
    drawn: np.ndarray
    spacing: tuple[float, ...]
    unit: str = "HU"
    split: str | None = None


@dataclass(frozen=True)
class CropGrid:
    """
    A grid of isotropic voxels in the voxel coordinates of a scan (row, column, slice), in 3D or in one axial slice.

    Args:
        center: of the grid, in the scan's voxels, 3 values; in 2D the last is the index of the slice.
        step: from one point to the next, in the scan's voxels, 3 values.
        spatial_size: number of points of each axis; the third is 1 in 2D.
    """

    center: tuple[float, float, float]
    step: tuple[float, float, float]
    spatial_size: tuple[int, int, int]

    @property
    def origin(self) -> np.ndarray:
        """The first point, in the scan's voxels, ``[3]``."""
        return np.array(self.center) - np.array(self.step) * (np.array(self.spatial_size) - 1) / 2

    def resample(self, voxels: np.ndarray, first_voxel: ArrayLike = (0, 0, 0), cval: float = 0.0) -> np.ndarray:
        """
        Values at the grid's points by linear interpolation, ``cval`` beyond the array.

        Args:
            voxels: a part of the scan, ``[rows, columns, slices]``.
            first_voxel: voxel of the scan at which the part begins.
            cval: the value beyond the part.

        Returns:
            float32, ``[*spatial_size]``.
        """
        # only the part that the grid reaches: a scan is thousands of times larger than a slice of it
        first = self.origin - np.asarray(first_voxel)
        last = first + np.array(self.step) * (np.array(self.spatial_size) - 1)
        low = np.clip(np.floor(first).astype(int) - 1, 0, voxels.shape)
        high = np.clip(np.ceil(last).astype(int) + 2, low, voxels.shape)
        part = voxels[tuple(map(slice, low, high))].astype(np.float32)
        return affine_transform(
            np.pad(part, 1, constant_values=cval),  # the border's own slope, not a cut
            np.array(self.step),
            offset=first - low + 1,
            output_shape=self.spatial_size,
            order=1,
            mode="constant",
            cval=cval,
        )


def crop_grids(
    nodule: LIDCNodule, spatial_dims: int, spatial_size: int, spacing: float, slices_per_nodule: int | None = None
) -> Iterator[tuple[str, CropGrid]]:
    """
    Grids of a nodule's crops with their names: the nodule itself in 3D, in 2D each axial slice of the scan in which a
    reader drew. They are centred on the mean of the readers' voxels, in 2D on that of the whole nodule too.

    Args:
        nodule: the nodule.
        spatial_dims: 2 or 3.
        spatial_size: points along each axis.
        spacing: distance of the points in mm.
        slices_per_nodule: largest number of slices in 2D, spread evenly from the lowest to the highest; None for all.

    Raises:
        ValueError: when an argument is not one of those above.
    """
    check_grid(spatial_dims, spatial_size, spacing)
    if slices_per_nodule is not None and slices_per_nodule < 1:
        raise ValueError(f"slices_per_nodule must be at least 1, got {slices_per_nodule}.")
    row, column, middle = (np.array(nodule.label.nonzero()[1:]).mean(1) + nodule.origin).tolist()
    rows, columns, slices = (spacing / own for own in nodule.spacing)
    if spatial_dims == 3:
        yield nodule.name, CropGrid((row, column, middle), (rows, columns, slices), (spatial_size,) * 3)
        return
    drawn = np.flatnonzero(nodule.label.any(axis=(0, 1, 2)))
    if slices_per_nodule is not None and len(drawn) > slices_per_nodule:
        # the middles of equal parts: a single one is the middle slice
        drawn = drawn[((np.arange(slices_per_nodule) + 0.5) * len(drawn) / slices_per_nodule).astype(int)]
    for k in (drawn + nodule.origin[2]).tolist():
        yield (
            f"{nodule.name}_z{k:03d}",
            CropGrid((row, column, k), (rows, columns, 1.0), (spatial_size, spatial_size, 1)),
        )


def check_grid(spatial_dims: int, spatial_size: int, spacing: float) -> None:
    """Raise a ValueError for a grid that :py:func:`crop_grids` cannot make."""
    if spatial_dims not in (2, 3):
        raise ValueError(f"spatial_dims must be 2 or 3, got {spatial_dims}.")
    if spatial_size < 1 or spacing <= 0:
        raise ValueError(f"spatial_size and spacing must be positive, got {spatial_size} and {spacing}.")


def crop_label(nodule: LIDCNodule, grid: CropGrid) -> np.ndarray:
    """The readers' masks on a grid, bool ``[4, *spatial_size]``: where the interpolated mask is at least 1/2."""
    return np.stack([grid.resample(mask, nodule.origin) >= 0.5 for mask in nodule.label])


def nodule_crops(
    nodule: LIDCNodule,
    image: Callable[[CropGrid], np.ndarray],
    spatial_dims: int,
    spatial_size: int,
    spacing: float,
    slices_per_nodule: int | None = None,
) -> Iterator[LIDCCrop]:
    """
    The crops of a nodule in HU.

    Args:
        nodule: the nodule.
        image: the HU on a grid, ``[*spatial_size]``.
        spatial_dims: 2 or 3.
        spatial_size: points along each axis.
        spacing: distance of the points in mm.
        slices_per_nodule: see :py:func:`crop_grids`.
    """
    for name, grid in crop_grids(nodule, spatial_dims, spatial_size, spacing, slices_per_nodule):
        values, label = image(grid), crop_label(nodule, grid)
        if spatial_dims == 2:
            values, label = values[..., 0], label[..., 0]
        yield LIDCCrop(name, nodule.patient_id, values, label, nodule.drawn, (float(spacing),) * spatial_dims)
