# SPDX-License-Identifier: Apache-2.0
"""Labels of several raters: what the losses check, and how they average over raters."""

from __future__ import annotations

import torch
from monai.utils import LossReduction

__all__ = ["check_rater_weights", "check_target", "known_labels", "reduce_raters"]


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
    return target.as_tensor() if hasattr(target, "as_tensor") else target


def known_labels(target: torch.Tensor, num_classes: int, ignore_index: int | None) -> tuple[torch.Tensor, torch.Tensor]:
    """
    The labels as indices of classes, with void voxels as 0, and which voxels are not void; both of target's shape.

    Raises:
        ValueError: when a label is outside the classes.
    """
    labels = target.long()
    valid = torch.ones_like(labels, dtype=torch.bool) if ignore_index is None else labels != ignore_index
    labels = labels * valid
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= num_classes:
        raise ValueError(
            f"target holds the label {low if low < 0 else high}, outside the {num_classes} classes "
            f"(ignore_index is {ignore_index})."
        )
    return labels, valid


def check_rater_weights(rater_weights: torch.Tensor | None, target: torch.Tensor) -> torch.Tensor:
    """
    Weights of the raters of ``target`` ``[B, R, *S]``, on its device, each row summing to 1.

    Args:
        rater_weights: ``[B, R]``, non-negative, each row with a positive sum; None: uniform.
        target: the raters' labels.

    Raises:
        ValueError: when the shape does not fit, or a weight is negative or not finite, or all of an item are 0.
    """
    shape = target.shape[:2]
    if rater_weights is None:
        return torch.full(shape, 1 / shape[1], device=target.device)
    usable = rater_weights.isfinite() & (rater_weights >= 0)
    if rater_weights.shape != shape or not usable.all() or (rater_weights.sum(1) <= 0).any():
        raise ValueError(
            f"rater_weights must be [B, raters] = {tuple(shape)}, non-negative, with a positive sum "
            f"per item, got {rater_weights.tolist()}."
        )
    return (rater_weights / rater_weights.sum(1, keepdim=True)).to(target.device)


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
