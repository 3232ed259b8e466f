# SPDX-License-Identifier: Apache-2.0
"""Labels of several raters: what the losses check, and how they average over raters."""

from __future__ import annotations

import torch
from monai.utils import LossReduction

from monai_stochseg.distributions.base import plain

__all__ = ["check_target", "reduce_raters"]


def check_target(target: torch.Tensor, like: torch.Tensor, name: str) -> torch.Tensor:
    """
    The raters' labels ``[B, R, *S]`` as a plain tensor.

    Args:
        target: labels.
        like: logits or parameters ``[B, channels, *S]`` of the same images.
        name: what ``like`` is, for the error.

    Raises:
        ValueError: when the shapes do not fit.
    """
    if target.dim() != like.dim() or target.shape[0] != like.shape[0] or target.shape[2:] != like.shape[2:]:
        raise ValueError(
            f"target must be [B, raters, *S] for {name} of shape {tuple(like.shape)}, got {tuple(target.shape)}."
        )
    return plain(target)


def reduce_raters(values: torch.Tensor, weights: torch.Tensor, reduction: str) -> torch.Tensor:
    """
    The weighted mean over raters, reduced over the batch.

    Args:
        values: loss of each item and rater, ``[B, R]``.
        weights: ``[B, R]``, each row summing to 1.
        reduction: ``"mean"`` over the batch, ``"sum"`` or ``"none"``.

    Raises:
        FloatingPointError: when a value is not finite; names the item and the rater.
    """
    if not torch.isfinite(values).all():
        item, rater = (~torch.isfinite(values)).nonzero()[0].tolist()
        raise FloatingPointError(
            f"the cross entropy of batch item {item} and rater {rater} is {float(values[item, rater])}."
        )
    items = (values * weights.to(values)).sum(1)
    if reduction == LossReduction.NONE.value:
        return items
    return items.sum() if reduction == LossReduction.SUM.value else items.mean()
