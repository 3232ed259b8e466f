# SPDX-License-Identifier: Apache-2.0
"""Volumes of structures over samples: each sample's, and their histogram."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from monai_stochseg.handlers.volume_table import weighted_quantile

__all__ = ["Histogram", "histogram", "structure_volumes"]

_INTERVAL = (0.05, 0.95)


class Histogram(NamedTuple):
    """
    ``edges`` of k bins, the ``shares`` of the samples' weight in them, the ``samples`` in each, and the weighted
    ``median`` with the ends ``low`` and ``high`` of the interval that holds 90 % of the weight.
    """

    edges: list[float]
    shares: list[float]
    samples: list[list[int]]
    median: float
    low: float
    high: float


def structure_volumes(labels: np.ndarray, classes: Sequence[int], voxel_volume: float) -> np.ndarray:
    """
    The volume of a structure in each label map.

    Args:
        labels: uint8 ``[N, V]``.
        classes: of the structure.
        voxel_volume: in the unit of the result.
    """
    inside = np.zeros(256, bool)
    inside[list(classes)] = True
    return np.array([np.count_nonzero(inside[row]) for row in labels], dtype=np.float64) * voxel_volume


def histogram(values: np.ndarray, weights: np.ndarray) -> Histogram:
    """
    The histogram of volumes, in about as many bins as the root of their number.

    Args:
        values: ``[N]``, N at least 1.
        weights: ``[N]``, summing to 1.

    Example::

        >>> histogram(np.array([1.0, 2.0, 5.0, 5.0]), np.full(4, 0.25)).shares
        [0.25, 0.25, 0.0, 0.5]
    """
    low, high = float(values.min()), float(values.max())
    if low == high:  # one bin, of a width that can be seen
        edges = np.array([0.5 * low, 1.5 * low]) if low else np.array([0.0, 1.0])
    else:
        edges = np.linspace(low, high, min(24, 2 + math.ceil(math.sqrt(len(values)))) + 1)
    place = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2)
    bins = range(len(edges) - 1)
    return Histogram(
        edges.tolist(),
        [float(weights[place == k].sum()) for k in bins],
        [np.flatnonzero(place == k).tolist() for k in bins],
        *(weighted_quantile(values, q, weights) for q in (0.5, *_INTERVAL)),
    )
