# SPDX-License-Identifier: Apache-2.0
"""The weights contract: one check, one draw and one way to carry the weights of the maps of a set."""

from __future__ import annotations

from typing import Any

import torch
from monai.data import MetaTensor

from monai_stochseg.distributions.base import plain

__all__ = ["check_weights", "draw_map", "weights_of", "with_weights"]

# Where a set of maps carries its weights: an entry of the metadata, which MONAI's decollation splits by item.
_META_KEY = "weights"


def check_weights(weights: Any, maps: torch.Tensor, name: str = "rater_weights") -> torch.Tensor:
    """
    Check the weights of the maps of a set, samples or raters, and normalise them.

    Args:
        weights: ``[B, K]``, one for each map, non-negative, each row with a positive sum, of any real type or bool; 0
            for a map that does not count, such as that of a missing rater. None: uniform.
        maps: the maps ``[B, K, *S]``.
        name: of the argument, for the errors.

    Returns:
        ``[B, K]`` on the device of ``maps``, each row summing to 1, in PyTorch's default dtype or better.

    Raises:
        ValueError: when the shape does not match, or a weight is negative or not finite, or all of an item are 0.

    Example::

        >>> check_weights(torch.tensor([[1, 1, 0]]), torch.zeros(1, 3, 8, 8))
        tensor([[0.5000, 0.5000, 0.0000]])
    """
    shape = tuple(maps.shape[:2])
    if weights is None:
        return torch.full(shape, 1 / shape[1], device=maps.device)
    weights = plain(torch.as_tensor(weights)).detach()
    usable = tuple(weights.shape) == shape and bool(weights.isfinite().all()) and bool((weights >= 0).all())
    if not usable or not bool((weights > 0).any(1).all()):
        fits = tuple(weights.shape) == shape and weights.numel() <= 64
        found = weights.tolist() if fits else f"the shape {tuple(weights.shape)}"
        raise ValueError(
            f"{name} must be {list(shape)}, one weight for each map, finite, non-negative, with a positive sum per "
            f"item, got {found}."
        )
    dtype = torch.promote_types(torch.get_default_dtype(), weights.dtype)
    weights = weights.to(maps.device, dtype)
    return weights / weights.sum(1, keepdim=True)


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
    device = "cpu" if generator is None else generator.device
    return torch.multinomial(weights.to(device), 1, generator=generator).squeeze(1).to(weights.device)


def with_weights(maps: torch.Tensor, weights: torch.Tensor | None) -> torch.Tensor:
    """
    The maps with their weights in the metadata, where the metrics of this package find them.

    Metrics that are called by MONAI's handlers get two arguments and no keyword: the weights come with the maps.

    Args:
        maps: ``[B, K, *S]``, or ``[K, *S]`` of one item; a MetaTensor keeps its metadata.
        weights: ``[B, K]`` or ``[K]``. None: the maps are returned as they are.

    Returns:
        a MetaTensor that shares the memory of ``maps``. MONAI's decollation gives each item its own weights.

    Example::

        >>> weights_of(with_weights(torch.zeros(2, 8, 8), torch.tensor([0.9, 0.1])))
        tensor([0.9000, 0.1000])
    """
    if weights is None:
        return maps
    meta, operations = ({}, None) if not isinstance(maps, MetaTensor) else (maps.meta, maps.applied_operations)
    return MetaTensor(plain(maps), meta={**meta, _META_KEY: plain(weights)}, applied_operations=operations)


def weights_of(maps: torch.Tensor) -> torch.Tensor | None:
    """
    The weights that :py:func:`with_weights` gave a set of maps; None where it has none.

    Args:
        maps: ``[B, K, *S]`` or ``[K, *S]``.
    """
    return maps.meta.get(_META_KEY) if isinstance(maps, MetaTensor) else None
