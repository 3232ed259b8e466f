# SPDX-License-Identifier: Apache-2.0
"""Weighted sets of label maps: the maps that count, and means over pairs of them."""

from __future__ import annotations

from typing import NamedTuple

import torch

from monai_stochseg.distributions import check_weights

from .label_maps import check_integers, check_label_maps, refuse_channels_as_raters
from .pairwise_distance import LabelMapDistance

__all__ = ["MapPair", "check_self_pairs", "counted_maps", "counted_pairs", "mean_distance"]


class MapPair(NamedTuple):
    """The samples and raters of one item that have a positive weight, each ``[*S]``, and their weights of sum 1."""

    samples: list[torch.Tensor]
    sample_weights: torch.Tensor
    raters: list[torch.Tensor]
    rater_weights: torch.Tensor


def counted_pairs(
    y_pred: torch.Tensor,
    y: torch.Tensor,
    y_pred_weights: torch.Tensor | None = None,
    y_weights: torch.Tensor | None = None,
    distance: LabelMapDistance | None = None,
) -> list[MapPair]:
    """
    Check two weighted sets of label maps and leave out the maps of weight 0, which may hold anything.

    Args:
        y_pred: label maps ``[B, N, *S]``.
        y: label maps ``[B, R, *S]``.
        y_pred_weights: ``[B, N]``, see :py:func:`monai_stochseg.distributions.check_weights`.
        y_weights: ``[B, R]``, likewise.
        distance: checks the labels when it is called; None: they are checked here, for being integers of any class.

    Returns:
        one for each item.

    Raises:
        TypeError: when a set is no tensor of real numbers.
        ValueError: when shapes do not match, weights are wrong, a label is no integer, or ``y`` is one-hot.
    """
    y_pred, y = check_label_maps(y_pred=y_pred, y=y)
    samples = counted_maps("y_pred", y_pred, y_pred_weights)
    raters = counted_maps("y", y, y_weights)
    if distance is None:
        for name, sets in (("y_pred", samples), ("y", raters)):
            for maps, _ in sets:
                for row in maps:
                    check_integers(name, row)
        refuse_channels_as_raters(y, y_weights)
    else:
        refuse_channels_as_raters(y, y_weights, distance.num_classes, distance.ignore_index)
    return [MapPair(*first, *second) for first, second in zip(samples, raters, strict=True)]


def counted_maps(
    name: str, maps: torch.Tensor, weights: torch.Tensor | None
) -> list[tuple[list[torch.Tensor], torch.Tensor]]:
    """
    List the maps of positive weight and their weights for each item.

    Args:
        name: of the argument that brought the maps, for the errors.
        maps: ``[B, K, *S]``.
        weights: ``[B, K]``, see :py:func:`monai_stochseg.distributions.check_weights`.

    Returns:
        for each item the maps ``[*S]``, views and not copies, and their weights, which sum to 1, in PyTorch's default
        dtype.

    Raises:
        ValueError: when weights are wrong.
    """
    weights = check_weights(weights, maps, f"{name}_weights", name).to(torch.get_default_dtype())
    pairs = zip(maps, weights, strict=True)
    return [([row for row, w in zip(item, p.tolist(), strict=True) if w > 0], p[p > 0]) for item, p in pairs]


def check_self_pairs(self_pairs: bool, **maps: torch.Tensor) -> None:
    """
    Check that a set has pairs of different maps where only these count.

    Args:
        self_pairs: whether the pairs of a map with itself count.
        maps: ``[B, K, *S]`` by argument name.

    Raises:
        ValueError: when they do not count and a set has a single map.
    """
    for name, value in maps.items():
        if not self_pairs and value.shape[1] < 2:
            raise ValueError(
                f"self_pairs=False needs at least 2 maps in {name}, got {value.shape[1]}: add maps or set "
                "self_pairs=True."
            )


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
