# SPDX-License-Identifier: Apache-2.0
"""The lung around a simulated nodule: parenchyma, vessels, chest wall and ribs."""

from __future__ import annotations

import numpy as np

from monai_stochseg.data.simulated.fields import Axes, RandomField, coverage, directions, distance_from, linear, tubes

from .nodules import LIDCNodule

REACH = 60.0  # mm around the nodule within which there are vessels
SCAN_MIDDLE = 255.5  # of 512 rows and columns
WALL_PROBABILITY = 1 / 3
TOUCHING_PROBABILITY = 0.3
MUSCLE_HU, FAT_HU, CORTEX_HU, MARROW_HU, VESSEL_HU = 45.0, -95.0, 650.0, 180.0, 40.0


class SimulatedLung:
    """
    The lung and the chest wall of one nodule.

    Vessels branch and taper from the hilum, which lies towards the middle of the scan; some end in the nodule. In a
    third of the nodules the chest wall with its ribs is near, on the side away from the hilum; a mask may reach
    fractions of a millimetre into it.

    Args:
        nodule: the readers' masks.
        center: of the coordinates, in mm of the scan.
        geometry: source of the draws of shape.
        texture: source of the draws of density.
        density: mean HU of the scan's parenchyma.
    """

    def __init__(
        self,
        nodule: LIDCNodule,
        center: np.ndarray,
        geometry: np.random.Generator,
        texture: np.random.Generator,
        density: float,
    ) -> None:
        inward = np.array([SCAN_MIDDLE, SCAN_MIDDLE, 0]) * nodule.spacing - center
        inward = np.array([inward[0], inward[1], 0]) / max(float(np.hypot(*inward[:2])), 1e-6)
        # the wall: a sphere of the size of a lung that holds every mask, except what lies beside its shift
        self.outward = directions(geometry, 1, -inward, 0.35)[0]
        points = (np.argwhere(nodule.label.any(0)) + nodule.origin) * nodule.spacing - center
        near, gap = geometry.random() < WALL_PROBABILITY, max(0.0, geometry.uniform(-6, 16))
        self.lung_radius = geometry.uniform(70, 120)
        self.lung_center = -self.lung_radius * self.outward
        depth = np.linalg.norm(points - self.lung_center, axis=1).max() - self.lung_radius
        self.lung_center += (depth + gap if near else REACH + depth) * self.outward
        along = np.cross(self.outward, directions(geometry, 1, np.array([0, 0, 1.0]), 0.4)[0])
        self.across_ribs = np.cross(along, self.outward)
        self.rib_spacing, self.rib_phase = geometry.uniform(20, 28), geometry.random()
        self.vessels = _vessels(geometry, inward)
        self.density = density
        self.gradient = np.array([texture.uniform(0, 1.0), 0, texture.normal(0, 0.3)])  # HU a mm: the back is denser
        self.fine, self.coarse = RandomField(texture, 2.0, 7.0, 192), RandomField(texture, 10.0, 50.0, 48)

    def draw(self, axes: Axes, blur: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """
        HU of lung, HU of chest wall, and how much of each point is chest wall, each ``[*spatial_size]``.

        Args:
            axes: of the grid.
            blur: of the scan in mm.
        """
        fine, coarse = self.fine(axes), self.coarse(axes)
        lung = self.density + np.clip(linear(self.gradient, axes), -50, 50) + 18 * fine + 18 * coarse
        lung += tubes(self.vessels, axes, blur) * (VESSEL_HU - lung)
        depth = distance_from(self.lung_center, axes) - self.lung_radius  # beyond the pleura
        wall = coverage(-depth, blur)
        if not wall.any():
            return lung, np.zeros_like(lung), wall
        along = linear(self.across_ribs / self.rib_spacing, axes) + self.rib_phase
        along = (along - np.round(along)) * self.rib_spacing
        rib = np.hypot(depth - 6.5, 0.8 * along) - 4.5
        tissue = MUSCLE_HU + coverage(14 + 4 * coarse - depth, 1.0) * (FAT_HU - MUSCLE_HU) + 8 * fine
        tissue += coverage(rib, blur) * (CORTEX_HU - tissue)
        tissue += coverage(rib + 1.6, blur) * (MARROW_HU + 40 * fine - tissue)
        return lung, tissue, wall


def _vessels(rng: np.random.Generator, inward: np.ndarray) -> np.ndarray:
    """Trees that grow away from the hilum, and at times one vessel to the nodule, as tapering tubes ``[N, 8]``."""
    trees = rng.poisson(110)
    position = REACH * np.cbrt(rng.random((trees, 1))) * directions(rng, trees)
    heading = directions(rng, trees, -inward, 0.6)
    radius = np.exp(rng.normal(-0.3, 0.4, trees))
    grown = []
    while len(position):
        end = position + rng.uniform(3, 8, (len(radius), 1)) * np.sqrt(radius)[:, None] * heading
        grown.append(np.column_stack([position, end, radius, 0.95 * radius]))
        share = rng.uniform(0.85, 1, len(radius))
        radius = 0.95 * radius * np.stack([share, np.cbrt(1 - share**3)])  # Murray's law
        turn = np.cross(heading, directions(rng, len(share)))
        heading = np.stack([heading + 0.25 * turn, heading - turn])
        kept = radius > 0.3
        position, radius, heading = np.stack([end, end])[kept], radius[kept], heading[kept]
        heading /= np.linalg.norm(heading, axis=1, keepdims=True)
    if rng.random() < TOUCHING_PROBABILITY:
        share = np.linspace(1, 0, 6)[:, None]  # of the way from the nodule's middle
        points = 35 * share * directions(rng, 1, inward, 0.5) + 8 * share * (1 - share) * rng.standard_normal((6, 3))
        radii = 0.7 + rng.uniform(0.3, 1.1) * share
        grown.append(np.column_stack([points[:-1], points[1:], radii[:-1], radii[1:]]))
    return np.concatenate(grown)
