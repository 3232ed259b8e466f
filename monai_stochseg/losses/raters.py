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
        name: what ``like`` is, for the error, the argument's name in it.

    Raises:
        ValueError: when the shapes do not fit, there is no item or no rater, or ``like`` has fewer than 2 channels.
    """
    if like.dim() < 2 or like.shape[1] < 2:
        raise ValueError(f"{name} must have at least 2 classes on its class axis, got {tuple(like.shape)}.")
    fits = target.dim() == like.dim() and target.shape[0] == like.shape[0] and target.shape[2:] == like.shape[2:]
    if not fits or not target.numel():
        raise ValueError(
            f"target must be [B, raters, *S], none of its axes empty, for {name} of shape {tuple(like.shape)}, got "
            f"{tuple(target.shape)}."
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
            f"the cross entropy of batch item {item} and rater {rater} is {float(values[item, rater])}: input is not "
            "finite."
        )
    items = (values * weights.to(values)).sum(1)
    if reduction == LossReduction.NONE.value:
        return items
    return items.sum() if reduction == LossReduction.SUM.value else items.mean()
