# SPDX-License-Identifier: Apache-2.0
"""Weights of the maps of a set: samples or raters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch

__all__ = ["WeightedMaps", "check_weights", "from_evaluator", "mean_distance", "weighted_maps"]

# Under which keys an evaluator's output has weights, by the key of the maps.
_WEIGHT_KEYS = {"samples": "sample_weights", "label": "label_weights"}


class WeightedMaps(NamedTuple):
    """
    Label maps of one item and their weights: what a metric takes for an entry of the list ``y_pred`` or ``y``.

    MONAI's ``IgniteMetricHandler`` passes a metric these two and no keyword, so that weights come with the maps. A
    metric that knows no weights rejects it.

    Args:
        maps: ``[K, *S]``.
        weights: ``[K]``, at least 0, summing to 1.
    """

    maps: torch.Tensor
    weights: torch.Tensor


def from_evaluator(keys: Sequence[str]) -> Callable[[Sequence[Mapping[str, Any]]], tuple[list, list | None]]:
    """
    Make the ``output_transform`` of MONAI's ``IgniteMetricHandler`` that hands weights on.

    As ``monai.handlers.from_engine``, save that the samples of an item with ``sample_weights``, and the raters or modes
    of one with ``label_weights``, become :py:class:`WeightedMaps`; and one key alone serves a metric of one set.

    In an engine: ``IgniteMetricHandler(metric_fn=SampleDiversityMetric(num_classes=4),
    output_transform=from_evaluator(["samples"]))``.

    Args:
        keys: of ``y_pred`` and ``y`` in the evaluator's decollated output, or of ``y_pred`` alone.

    Raises:
        ValueError: when there are not one or two keys.
    """
    if isinstance(keys, str) or len(keys) not in (1, 2):
        raise ValueError(f"keys must be a sequence of the key of y_pred and that of y, or the former, got {keys!r}.")
    return partial(_entries, keys=tuple(keys))


def _entries(output: Sequence[Mapping[str, Any]], keys: tuple[str, ...]) -> tuple[list, list | None]:
    columns = [[_entry(item, key) for item in output] for key in keys]
    return columns[0], columns[1] if len(columns) == 2 else None


def _entry(item: Mapping[str, Any], key: str) -> torch.Tensor | WeightedMaps:
    weights = item.get(_WEIGHT_KEYS[key]) if key in _WEIGHT_KEYS else None
    return item[key] if weights is None else WeightedMaps(item[key], weights)


def check_weights(name: str, weights: torch.Tensor | None, maps: torch.Tensor) -> torch.Tensor:
    """
    Check the weights of the maps of a set.

    Args:
        name: name of the argument, for the errors.
        weights: ``[B, K]``, each row at least 0 and summing to 1; None: uniform.
        maps: the label maps ``[B, K, *S]``.

    Returns:
        ``[B, K]`` in PyTorch's default dtype, on the device of ``maps``.

    Raises:
        ValueError: when the shape does not match, a weight is negative or not finite, or a row does not sum to 1.
    """
    if weights is None:
        return torch.full(maps.shape[:2], 1 / maps.shape[1], device=maps.device)
    if weights.shape != maps.shape[:2]:
        raise ValueError(f"{name} must have shape {tuple(maps.shape[:2])}, one per map, got {tuple(weights.shape)}.")
    weights = torch.as_tensor(weights, dtype=torch.get_default_dtype(), device=maps.device)
    if not (weights.isfinite() & (weights >= 0)).all():
        raise ValueError(f"{name} must be finite and at least 0, got {weights.tolist()}.")
    total = weights.sum(dim=1)
    if (total - 1).abs().max() > 1e-4:
        raise ValueError(f"{name} must sum to 1 over the maps of each item, got {total.tolist()}: divide by the sum.")
    return weights


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
