# SPDX-License-Identifier: Apache-2.0
"""Weighted sets of label maps: the maps that count, and means over pairs of them."""

from __future__ import annotations

import torch

__all__ = ["mean_distance", "weighted_maps"]


def weighted_maps(maps: torch.Tensor, weights: torch.Tensor) -> list[torch.Tensor]:
    """The maps, of ``[K, *S]``, that have a positive weight, of ``[K]``: views, not copies."""
    return [row for row, weight in zip(maps, weights.tolist(), strict=True) if weight > 0]


def mean_distance(
    distance: torch.Tensor, x_weights: torch.Tensor, y_weights: torch.Tensor, self_pairs: bool = True
) -> torch.Tensor:
    """
    Average the distances of pairs of maps.

    Args:
        distance: ``[N, M]``.
        x_weights: ``[N]``.
        y_weights: ``[M]``.
        self_pairs: False leaves out the pairs of a map with itself (``distance`` is then square) and divides by the
            weight of the others: ``1 - sum w_i^2``.

    Returns:
        a scalar; NaN where a distance is NaN or no pair is left.
    """
    weights = torch.outer(x_weights, y_weights)
    if not self_pairs:
        weights = weights.fill_diagonal_(0)
        distance = distance.clone().fill_diagonal_(0)  # NaN there, with empty="ignore", would stay NaN
    return (weights * distance).sum() / weights.sum()
