# SPDX-License-Identifier: Apache-2.0
"""Costs of every sample against every rater."""

from __future__ import annotations

import torch

from monai_stochseg.distributions import check_labels
from monai_stochseg.distributions.arguments import check_arguments, check_axes, check_same_shape, reads_values
from monai_stochseg.losses.class_sums import class_sums

__all__ = ["cross_entropy_cost", "iou_cost"]

# Marks the voxels that do not count: no class, and within the range of short and of half precision.
_VOID = torch.iinfo(torch.short).min


@check_arguments
def iou_cost(logits: torch.Tensor, labels: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """
    One minus the soft intersection over union, ``1 - mean_c (I_c + 1) / (U_c + 1)`` over the classes without class 0.

    With p the softmax of a sample and y the one-hot label of a rater, ``I = sum p y`` and ``U = sum p + sum y - I``
    over the voxels that are not void to the rater. A class that both lack costs nothing.

    Args:
        logits: N samples, ``[B, N, C, *S]``.
        labels: integer classes of M raters, ``[B, M, *S]``; void voxels may hold any value.
        valid: the voxels that are not void, ``[B, M, *S]``.

    Returns:
        ``[B, N, M]`` in [0, 1), in float32 or better; 0 for a rater without a valid voxel.

    Raises:
        ValueError: when a valid label is no integer or outside the classes.
    """
    _check_shapes(logits, labels, valid)
    valid, raters = valid.flatten(2), labels.shape[1]
    marked = _marked(labels.flatten(2), valid, logits.shape[2])
    masks = valid[:, :1] if reads_values() and valid.all() else valid  # one mask serves all raters that have no void
    sums = class_sums(logits.flatten(3), marked, masks, first_class=1)
    intersection, size = sums[..., :raters], sums[..., raters:]
    label_size = torch.stack([(marked == c).sum(2) for c in range(1, logits.shape[2])])[:, :, None]
    return 1 - ((intersection + 1) / (size + label_size - intersection + 1)).mean(0)


@check_arguments
def cross_entropy_cost(logits: torch.Tensor, labels: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """
    Cross entropy of every sample against every rater: the mean over the voxels that are not void to the rater.

    Args:
        logits: N samples, ``[B, N, C, *S]``.
        labels: integer classes of M raters, ``[B, M, *S]``; void voxels may hold any value.
        valid: the voxels that are not void, ``[B, M, *S]``.

    Returns:
        nats per voxel, ``[B, N, M]``, in float32 or better; 0 for a rater without a valid voxel.

    Raises:
        ValueError: when a valid label is no integer or outside the classes.
    """
    _check_shapes(logits, labels, valid)
    valid = valid.flatten(2)
    marked = _marked(labels.flatten(2), valid, logits.shape[2])
    log_likelihood = class_sums(logits.flatten(3), marked, valid[:, :0], log=True).sum(0)
    return -log_likelihood / valid.sum(2).clamp(min=1)[:, None]


def _check_shapes(logits: torch.Tensor, labels: torch.Tensor, valid: torch.Tensor) -> None:
    check_axes("[B, N, C, *S]", 5, logits=logits)
    check_same_shape(labels=labels, valid=valid)
    if labels.ndim != logits.ndim - 1 or labels.shape[0] != len(logits) or labels.shape[2:] != logits.shape[3:]:
        raise ValueError(
            f"labels must be [B, M, *S] of logits [B, N, C, *S] {tuple(logits.shape)}, got {tuple(labels.shape)}."
        )


def _marked(labels: torch.Tensor, valid: torch.Tensor, num_classes: int) -> torch.Tensor:
    """The labels, checked, with void voxels as no class, in a type that takes little memory."""
    marked = labels if labels.is_floating_point() else labels.long()
    marked = marked.masked_fill(~valid, _VOID)
    check_labels(marked, num_classes, ignore_index=_VOID, name="labels")
    return marked.short()
