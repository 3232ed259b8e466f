# SPDX-License-Identifier: Apache-2.0
"""The weights contract: one check, one draw and one way to carry the weights of the maps of a set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from monai.data import MetaTensor

from monai_stochseg.distributions.arguments import check_arguments, check_axes, reads_values
from monai_stochseg.distributions.base import full_precision, plain

__all__ = ["check_probabilities", "check_weights", "draw_map", "weights_of", "with_weights"]

# Where a set of maps carries its weights: an entry of the metadata, which MONAI's decollation splits by item.
_META_KEY = "weights"
# Of the sum of probabilities.
_TOLERANCE = 1e-3


@check_arguments
def check_weights(
    weights: Any, maps: torch.Tensor, name: str = "rater_weights", maps_name: str = "maps"
) -> torch.Tensor:
    """
    Check the weights of the maps of a set, samples or raters, and normalise them.

    Args:
        weights: ``[B, K]``, one for each map, non-negative, each row with a positive sum, of any real type or bool; 0
            for a map that does not count, such as that of a missing rater. None: uniform.
        maps: the maps ``[B, K, *S]``.
        name: of the argument, for the errors.
        maps_name: of the argument that brought the maps, for the errors.

    Returns:
        ``[B, K]`` on the device of ``maps``, each row summing to 1, in PyTorch's default dtype or better.

    Raises:
        TypeError: when the weights are no numbers.
        ValueError: when the shape does not match, or a weight is negative or not finite, or all of an item are 0.

    Example::

        >>> check_weights(torch.tensor([[1, 1, 0]]), torch.zeros(1, 3, 8, 8))
        tensor([[0.5000, 0.5000, 0.0000]])
    """
    check_axes("[B, K, *S]", 2, maps=maps)
    shape = tuple(maps.shape[:2])
    if weights is None:
        return torch.full(shape, 1 / shape[1], device=maps.device)
    try:
        weights = plain(torch.as_tensor(weights)).detach()
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(f"{name} must be a tensor of one weight for each map, got {weights!r:.60}.") from None
    if weights.is_complex():
        raise TypeError(f"{name} must be real, got {weights.dtype}.")
    usable = tuple(weights.shape) == shape
    if usable and reads_values():
        usable = bool(weights.isfinite().all() & (weights >= 0).all() & (weights > 0).any(1).all())
    if not usable:
        fits = tuple(weights.shape) == shape and weights.numel() <= 64
        found = weights.tolist() if fits else f"the shape {tuple(weights.shape)}"
        raise ValueError(
            f"{name} must be {list(shape)}, one weight for each map of {maps_name}, finite, non-negative, with a "
            f"positive sum per item, got {found}."
        )
    dtype = torch.promote_types(torch.get_default_dtype(), weights.dtype)
    weights = weights.to(maps.device, dtype)
    return weights / weights.sum(1, keepdim=True)


@check_arguments
def check_probabilities(name: str, weights: torch.Tensor, shape: Sequence[int], axes: str) -> None:
    """
    Check weights that must sum to 1, such as those of a network's samples.

    Args:
        name: of the argument, for the errors.
        weights: ``[B, K]`` of any floating type; a sum may be off by what the type rounds.
        shape: what their shape must be.
        axes: how this shape is called in the error.

    Raises:
        ValueError: when the shape is another, or a row holds a negative value or does not sum to 1.
    """
    if tuple(weights.shape) != tuple(shape):
        raise ValueError(f"{name} must be {axes}, {tuple(shape)}, got {tuple(weights.shape)}.")
    if not reads_values():
        return
    values = full_precision(weights).detach()
    tolerance = max(_TOLERANCE, torch.finfo(weights.dtype).eps if weights.is_floating_point() else 0)
    total = values.sum(1)
    if not bool((values >= 0).all() & ((total - 1).abs() <= tolerance).all()):  # negated, so that NaN fails
        raise ValueError(f"{name} must not be negative and sum to 1 per item, got sums {total.tolist()}.")


@check_arguments
def draw_map(weights: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
    """
    Draw one map of each item in proportion to its weight, and so never one of weight 0.

    Args:
        weights: ``[B, K]``, as :py:func:`check_weights` returns them.
        generator: source of the draw; the default is PyTorch's global one.

    Returns:
        indices ``[B]``, int64, on the device of ``weights``.

    Example::

        >>> draw_map(torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
        tensor([1, 0])
    """
    check_axes("[B, K]", 2, weights=weights)
    device = "cpu" if generator is None else generator.device
    try:
        drawn = torch.multinomial(weights.to(device), 1, generator=generator)
    except RuntimeError as error:  # to look at the values before would wait for the device at each step of a training
        raise ValueError(f"weights must be [B, K] as check_weights returns them ({error}).") from None
    return drawn.squeeze(1).to(weights.device)


@check_arguments
def with_weights(maps: torch.Tensor, weights: torch.Tensor | None) -> torch.Tensor:
    """
    The maps with their weights in the metadata, where the metrics of this package find them.

    Metrics that are called by MONAI's handlers get two arguments and no keyword: the weights come with the maps.

    Args:
        maps: ``[B, K, *S]``, or ``[K, *S]`` of one item; a MetaTensor keeps its metadata.
        weights: ``[B, K]`` or ``[K]``. None: the maps are returned as they are.

    Returns:
        a MetaTensor that shares the memory of ``maps``. MONAI's decollation gives each item its own weights.

    Raises:
        ValueError: when there is not one weight for each map.

    Example::

        >>> weights_of(with_weights(torch.zeros(2, 8, 8), torch.tensor([0.9, 0.1])))
        tensor([0.9000, 0.1000])
    """
    if weights is None:
        return maps
    if weights.shape != maps.shape[: weights.ndim] or weights.ndim not in (1, 2):
        raise ValueError(
            f"weights must be [B, K] or [K] of maps [B, K, *S] or [K, *S] of shape {tuple(maps.shape)}, got "
            f"{tuple(weights.shape)}."
        )
    meta, operations = ({}, None) if not isinstance(maps, MetaTensor) else (maps.meta, maps.applied_operations)
    return MetaTensor(plain(maps), meta={**meta, _META_KEY: plain(weights)}, applied_operations=operations)


@check_arguments
def weights_of(maps: torch.Tensor) -> torch.Tensor | None:
    """
    The weights that :py:func:`with_weights` gave a set of maps; None where it has none.

    Args:
        maps: ``[B, K, *S]`` or ``[K, *S]``.
    """
    return maps.meta.get(_META_KEY) if isinstance(maps, MetaTensor) else None
