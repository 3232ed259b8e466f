# SPDX-License-Identifier: Apache-2.0
"""A simulated CT around a real nodule: LIDC's database has the readers' masks, but no image."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

from monai_stochseg.data.simulated.fields import Axes, random_generator

from .crops import CropGrid
from .nodules import LIDCNodule
from .simulated_lung import SimulatedLung
from .simulated_nodule import SimulatedNodule

SIMULATION = 1  # raise it when the same seed gives another image


class SimulatedCT:
    """
    The simulated CT of one nodule: nothing in the image is real, the masks are.

    Everything except the noise is a function of the position in the scan, so that a slice in 2D agrees with the volume
    in 3D and crops of every size and spacing show the same nodule. Shape, density and noise have separate seeds, from
    the nodule's name; sharpness, noise level and density of the lung are those of the scan.

    Args:
        nodule: the readers' masks and scores.
        seed: of everything.
    """

    def __init__(self, nodule: LIDCNodule, seed: int = 0) -> None:
        self.key = (seed, nodule.name)
        self.spacing = np.array(nodule.spacing)
        self.center = (nodule.origin + (np.array(nodule.label.shape[1:]) - 1) / 2) * self.spacing
        scan = random_generator(seed, "scan", nodule.scan_id)
        self.blur = float(scan.uniform(0.45, 0.9))
        self.noise_level = float(np.clip(np.exp(scan.normal(3.0, 0.45)) / np.sqrt(nodule.slice_thickness / 2), 8, 70))
        self.noise_width = float(scan.uniform(0.5, 0.9))
        density = float(scan.normal(-870, 18))
        geometry, texture = (random_generator(*self.key, part) for part in ("geometry", "texture"))
        self.nodule = SimulatedNodule(nodule, self.center, geometry, texture)
        self.lung = SimulatedLung(nodule, self.center, geometry, texture, density)

    def render(self, grid: CropGrid, noise: bool = True) -> np.ndarray:
        """
        HU on a grid, float32 ``[*spatial_size]``.

        Args:
            grid: the grid.
            noise: whether to add the scanner's noise, which differs from grid to grid.
        """
        axes = self.axes(grid)
        lung, tissue, wall = self.lung.draw(axes, self.blur)
        image = self.nodule.draw(lung, grid, axes, self.blur)
        image += wall * (tissue - image)
        if noise:
            image += self.noise_level * self._noise(grid)
        return np.clip(image, -1024, 3071).astype(np.float32)

    def axes(self, grid: CropGrid) -> Axes:
        """Coordinates of a grid's rows, columns and slices, in mm from the middle of the readers' box."""
        rows, columns, slices = (
            (first + step * np.arange(size)) * spacing - center
            for first, step, size, spacing, center in zip(
                grid.origin, grid.step, grid.spatial_size, self.spacing, self.center, strict=True
            )
        )
        return rows, columns, slices

    def _noise(self, grid: CropGrid) -> np.ndarray:
        """Zero mean and unit variance, correlated within a slice."""
        rng = random_generator(*self.key, "noise", *(f"{value:.2f}" for value in (*grid.center, *grid.step)))
        width = [self.noise_width / (step * mm) for step, mm in zip(grid.step[:2], self.spacing[:2], strict=True)]
        white = rng.standard_normal(grid.spatial_size, dtype=np.float32)
        smooth = gaussian_filter(white, (*width, 0), mode="wrap")
        return smooth / smooth.std()


def simulate_ct(nodule: LIDCNodule, grid: CropGrid, seed: int = 0) -> np.ndarray:
    """
    Simulate the CT of a nodule on the grid of a crop; use :py:class:`SimulatedCT` for several grids of one nodule.

    Args:
        nodule: the readers' masks and scores.
        grid: of :py:func:`crop_grids`, in 2D or 3D.
        seed: of everything, together with the nodule's name.

    Returns:
        HU, float32 ``[*spatial_size]``; equal for equal arguments.
    """
    return SimulatedCT(nodule, seed).render(grid)
