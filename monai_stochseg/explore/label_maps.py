# SPDX-License-Identifier: Apache-2.0
"""Label maps of one grid, kept where any of them is not background."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["SparseMaps"]


@dataclass(frozen=True)
class SparseMaps:
    """
    Label maps ``[N, V]``, of which only the voxels are kept that are not background in all of them: structures are
    small, and a volume of 240 x 240 x 155 has 9 million voxels.

    Args:
        voxels: indices of the voxels that are kept, ``[K]``.
        labels: uint8 ``[N, K]``.
        size: V.
    """

    voxels: np.ndarray
    labels: np.ndarray
    size: int

    @classmethod
    def of(cls, maps: Sequence[np.ndarray], size: int) -> SparseMaps:
        """
        Args:
            maps: uint8 ``[V]`` each.
            size: V.
        """
        any_label = np.zeros(size, np.uint8)
        for each in maps:
            np.maximum(any_label, each, out=any_label)
        voxels = np.flatnonzero(any_label)
        labels = np.stack([each[voxels] for each in maps]) if len(maps) else np.zeros((0, 0), np.uint8)
        return cls(voxels, labels, size)

    def __len__(self) -> int:
        return len(self.labels)

    def map(self, index: int) -> np.ndarray:
        """One label map, uint8 ``[V]``."""
        whole = np.zeros(self.size, np.uint8)
        whole[self.voxels] = self.labels[index]
        return whole
