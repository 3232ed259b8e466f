# SPDX-License-Identifier: Apache-2.0
"""Labels of several raters: what the losses check, and how they average over raters."""

from __future__ import annotations

import torch
from monai.utils import LossReduction

from monai_stochseg.distributions import check_labels, check_weights
from monai_stochseg.distributions.arguments import reads_values
from monai_stochseg.distributions.base import plain

__all__ = ["check_target", "drawn_labels", "reduce_raters"]


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


def drawn_labels(
    logits: torch.Tensor,
    target: torch.Tensor,
    rater: torch.Tensor,
    rater_weights: torch.Tensor | None,
    ignore_index: int | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    The labels ``[B, *S]`` of the raters that a network has drawn, void voxels as 0, and which voxels count.

    Args:
        logits: ``[B, C, *S]``.
        target: integer labels of the raters, ``[B, R, *S]``.
        rater: the rater of each item, ``[B]``.
        rater_weights: ``[B, R]``; a missing rater has weight 0.
        ignore_index: label of void voxels.

    Raises:
        ValueError: when shapes do not fit, a label is outside the classes, or the network drew a missing rater.
    """
    target = check_target(target, logits, "logits")
    whole = not (rater.is_floating_point() or rater.is_complex() or rater.dtype == torch.bool)
    fits = whole and rater.shape == logits.shape[:1]
    if fits and reads_values():
        fits = bool(((rater >= 0) & (rater < target.shape[1])).all())
    if not fits:
        raise ValueError(
            f"rater must name one of the target's {target.shape[1]} raters for each of {len(logits)} items, "
            f"got {rater.tolist()}: give the loss the labels that the network was given."
        )
    weights = check_weights(rater_weights, target, maps_name="target")
    items = torch.arange(len(target), device=target.device)
    if reads_values() and not bool((weights[items, rater] > 0).all()):
        raise ValueError(
            f"the network drew the raters {rater.tolist()}, one of whom is missing, of weight 0 in rater_weights: "
            "give the network the rater_weights as well."
        )
    labels, valid = check_labels(target, logits.shape[1], ignore_index, weights=weights)
    return labels[items, rater], valid[items, rater]


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
    if reads_values() and not torch.isfinite(values).all():
        item, rater = (~torch.isfinite(values)).nonzero()[0].tolist()
        raise FloatingPointError(
            f"the cross entropy of batch item {item} and rater {rater} is {float(values[item, rater])}: input is not "
            "finite."
        )
    items = (values * weights.to(values)).sum(1)
    if reduction == LossReduction.NONE.value:
        return items
    return items.sum() if reduction == LossReduction.SUM.value else items.mean()
