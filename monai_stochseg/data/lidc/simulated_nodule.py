# SPDX-License-Identifier: Apache-2.0
"""The body of a simulated nodule, whose edge lies between those of its readers."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import distance_transform_edt, map_coordinates

from monai_stochseg.data.simulated.fields import Axes, RandomField, coverage, directions, distance_from, tubes

from .crops import CropGrid
from .database import LIDC_ATTRIBUTES
from .nodules import LIDCNodule

PADDING = 5.0  # mm around the readers' box within which distances are known
POPCORN, LAMINATED, SOLID, NON_CENTRAL, CENTRAL = range(1, 6)  # scores of calcification
CONTENTS_HU = {2: 8.0, 3: -80.0, 4: -880.0}  # of internalStructure: fluid, fat, air
TISSUE_HU, CALCIUM_HU = 35.0, 450.0


class SimulatedNodule:
    """
    A nodule in the lung, from the masks and the scores of its readers.

    Its edge is the zero level of a random convex combination of the signed distances to the edges that readers drew,
    so that the image does not show whose is right; it is wider where they scored ``margin`` lower and where they
    disagree more. Its opacity rises with ``subtlety``, ``texture`` and, weakly, with the number of readers who drew it.

    Args:
        nodule: the readers' masks and scores.
        center: of the coordinates, in mm of the scan.
        geometry: source of the draws of shape.
        texture: source of the draws of density.
    """

    def __init__(
        self, nodule: LIDCNodule, center: np.ndarray, geometry: np.random.Generator, texture: np.random.Generator
    ) -> None:
        spacing = np.array(nodule.spacing)
        pad = np.ceil(PADDING / spacing).astype(int)
        masks = np.pad(nodule.label[nodule.drawn], [(0, 0), *((side, side) for side in pad)])
        distances = np.stack([_signed_distance(mask, nodule.spacing) for mask in masks])
        weights = geometry.dirichlet(np.ones(len(masks)))
        distance = np.tensordot(weights, distances, 1)
        # readers may have drawn parts that hardly overlap: a body is always left
        self.distance = distance - max(0.0, float(distance.min()) + spacing.min() / 2)
        self.depth = -float(self.distance.min())
        self.disagreement = distances.std(0)
        self.first_voxel = nodule.origin - pad
        deepest = np.array(np.unravel_index(self.distance.argmin(), self.distance.shape))
        self.core = (deepest + self.first_voxel) * spacing - center
        self.center, self.spacing = center, spacing

        scores = dict(zip(LIDC_ATTRIBUTES, nodule.attributes[nodule.drawn].T, strict=True))
        mean = {name: float(values.mean()) for name, values in scores.items()}
        self.solidity = np.clip((mean["texture"] - 1) / 4, 0, 1)  # 0 ground glass, 1 solid
        self.edge_width = 0.3 + 0.25 * (5 - mean["margin"])
        self.calcification, self.contents = (
            int(geometry.choice(scores[name])) for name in ("calcification", "internalStructure")
        )
        self.spicules = self._spicules(geometry, mean["spiculation"])
        self.blob = self.core + 0.5 * self.depth * directions(geometry, 1)[0]  # of non-central calcification

        seen = (mean["subtlety"] - 1) / 4
        visibility = (0.35 + 0.65 * seen) * (0.5 + 0.125 * len(masks)) * np.exp(0.15 * texture.standard_normal())
        # the opacity of the body's rim and of its core; ground glass stays visible
        self.rim_opacity = float(np.clip(visibility * (0.45 + 0.55 * self.solidity), 0.16, 1))
        self.core_opacity = float(np.clip(visibility * (0.45 + 1.1 * self.solidity), 0.2, 1))
        self.mottle = RandomField(texture, 2.0, 8.0)

    def draw(self, lung: np.ndarray, grid: CropGrid, axes: Axes, blur: float) -> np.ndarray:
        """
        The lung with the nodule in it.

        Args:
            lung: HU on the grid, ``[*spatial_size]``.
            grid: the grid.
            axes: its coordinates in mm.
            blur: of the scan in mm.
        """
        distance = grid.resample(self.distance, self.first_voxel, cval=PADDING)
        disagreement = grid.resample(self.disagreement, self.first_voxel)
        # narrow enough for the deepest point to stay visible
        width = np.hypot(blur, np.minimum(self.edge_width + 0.5 * disagreement, 0.6 * self.depth))
        body = coverage(distance, width)
        inner = np.clip(-distance / self.depth, 0, 1)
        mottle = self.mottle(axes)

        core = np.clip((inner - 0.35 * (1 - self.solidity)) * 4, 0, 1)  # a part-solid nodule's core is smaller
        opacity = self.rim_opacity + (self.core_opacity - self.rim_opacity) * core
        opacity = np.clip(opacity * (1 + (0.22 - 0.2 * self.solidity) * mottle), 0, 1)
        strength = np.maximum(body * opacity, self.rim_opacity * tubes(self.spicules, axes, blur))
        density = TISSUE_HU + 10 * mottle
        if self.contents in CONTENTS_HU:
            density = density + np.clip((inner - 0.3) * 5, 0, 1) * (CONTENTS_HU[self.contents] - density)
        image = lung + strength * (density - lung)
        return image + body * self._calcified(inner, mottle, axes, blur) * (CALCIUM_HU - image)

    def _calcified(self, inner: np.ndarray, mottle: np.ndarray, axes: Axes, blur: float) -> np.ndarray:
        """Share of calcium, 0 to 1."""
        if self.calcification == POPCORN:
            return np.clip(mottle * 2 - 0.5, 0, 1)
        if self.calcification == LAMINATED:
            return np.clip(1.5 * np.cos(6 * np.pi * inner), 0, 1)
        if self.calcification == SOLID:
            return np.clip(inner * 4, 0, 1)
        if self.calcification == CENTRAL:
            return np.clip((inner - 0.5) * 4, 0, 1)
        if self.calcification == NON_CENTRAL:
            return coverage(distance_from(self.blob, axes) - max(0.7, 0.35 * self.depth), blur)
        return np.zeros_like(inner)

    def _spicules(self, rng: np.random.Generator, score: float) -> np.ndarray:
        """Thin tapering tubes that leave the body, ``[N, 8]``."""
        n = rng.poisson(2.5 * (score - 1))
        towards = directions(rng, n)
        steps = np.arange(0, 40, 0.5)
        voxels = (self.core + self.center + steps[:, None, None] * towards) / self.spacing - self.first_voxel
        outside = map_coordinates(self.distance, voxels.T, order=1, cval=PADDING, mode="constant").T > 0
        radius = steps[outside.argmax(0)]
        starts = self.core + 0.6 * radius[:, None] * towards
        ends = self.core + (radius + rng.uniform(1, 3, n) * (1 + 0.4 * score))[:, None] * towards
        return np.concatenate([starts, ends, np.tile([0.8, 0.2], (n, 1))], axis=1)


def _signed_distance(mask: np.ndarray, spacing: tuple[float, float, float]) -> np.ndarray:
    """Distance to the edge of a mask in mm, negative inside."""
    half = min(spacing) / 2  # the edge runs between voxels
    outside = distance_transform_edt(~mask, sampling=spacing)
    inside = distance_transform_edt(mask, sampling=spacing)
    return np.where(mask, half - inside, outside - half)
