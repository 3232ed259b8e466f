# SPDX-License-Identifier: Apache-2.0
"""Sums over voxels for the costs of samples and raters, in little memory."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from monai_stochseg.distributions import full_precision

__all__ = ["class_sums", "voxel_chunks"]

# Elements of the logits taken at a time, of all items together.
_CHUNK_ELEMENTS = 2**20


def class_sums(
    logits: torch.Tensor, labels: torch.Tensor, masks: torch.Tensor, first_class: int = 0, log: bool = False
) -> torch.Tensor:
    """
    Sum the samples' probabilities of every class over the voxels that a rater gives the class, and over masks.

    A matrix product in chunks of voxels, in float32 or better under autocast too. The backward pass computes the
    softmax again and leaves out the samples whose gradient is 0. Except the gradient it makes nothing as large as the
    logits. It is one operation for ``torch.compile``.

    Args:
        logits: ``[B, N, C, V]``.
        labels: ``[B, M, V]``; a voxel with a label outside the classes is in no sum.
        masks: ``[B, E, V]``, E of 0 or more.
        first_class: the classes before it are left out.
        log: sum the logarithms of the probabilities.

    Returns:
        ``[C - first_class, B, N, M + E]``: first the raters, then the masks.
    """
    sums: torch.Tensor = _sums(logits, labels, masks, first_class, log)
    return sums


def voxel_chunks(shape: Sequence[int]) -> Iterator[slice]:
    """Slices of the last axis of a tensor of this shape, each of a bounded number of elements."""
    size = max(1, _CHUNK_ELEMENTS // max(1, math.prod(shape[:-1])))
    return (slice(start, start + size) for start in range(0, shape[-1], size))


@torch.library.custom_op("monai_stochseg::class_sums", mutates_args=())
def _sums(logits: torch.Tensor, labels: torch.Tensor, masks: torch.Tensor, first_class: int, log: bool) -> torch.Tensor:
    batch, num_samples, num_classes = logits.shape[:3]
    columns = labels.shape[1] + masks.shape[1]
    sums = logits.new_zeros((num_classes - first_class, batch, num_samples, columns), dtype=_sum_type(logits))
    with torch.autocast(logits.device.type, enabled=False):
        for part in voxel_chunks(logits.shape):
            scores = full_precision(logits[..., part].permute(2, 0, 1, 3))
            scores = scores.log_softmax(0) if log else scores.softmax(0)
            belongs = _indicators(labels[..., part], masks[..., part], range(first_class, num_classes), sums.dtype)
            sums.flatten(0, 1).baddbmm_(scores[first_class:].flatten(0, 1), belongs.flatten(0, 1).mT)
    return sums


@_sums.register_fake
def _(logits: torch.Tensor, labels: torch.Tensor, masks: torch.Tensor, first_class: int, log: bool) -> torch.Tensor:
    batch, num_samples, num_classes = logits.shape[:3]
    shape = (num_classes - first_class, batch, num_samples, labels.shape[1] + masks.shape[1])
    return logits.new_empty(shape, dtype=_sum_type(logits))


def _sum_type(logits: torch.Tensor) -> torch.dtype:
    return torch.promote_types(logits.dtype, torch.float32)


@torch.library.custom_op("monai_stochseg::class_sums_gradient", mutates_args=())
def _gradient(
    grad: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor, masks: torch.Tensor, first_class: int, log: bool
) -> torch.Tensor:
    classes = range(first_class, logits.shape[2])
    used = (grad != 0).any(3).any(0)
    # each item keeps as many samples as the item with the most; in the others some of these have a gradient of 0
    kept = used.byte().argsort(1, descending=True)[:, : int(used.sum(1).max())]
    items = torch.arange(len(logits), device=logits.device)[:, None]
    grad = grad[:, items, kept]
    result = torch.zeros_like(logits, memory_format=torch.contiguous_format)
    with torch.autocast(logits.device.type, enabled=False):
        for part in voxel_chunks((*kept.shape, *logits.shape[2:])):
            chunk = full_precision(logits[..., part][items, kept].permute(2, 0, 1, 3))
            belongs = _indicators(labels[..., part], masks[..., part], classes, grad.dtype)
            scores_grad = torch.bmm(grad.flatten(0, 1), belongs.flatten(0, 1)).unflatten(0, grad.shape[:2])
            d = chunk.softmax(0)
            if log:  # d log p_a / d logit_b = [a = b] - p_b
                d.mul_(-scores_grad.sum(0))
                d[first_class:] += scores_grad
            else:  # d p_a / d logit_b = p_a ([a = b] - p_b)
                scores_grad *= d[first_class:]
                d.mul_(-scores_grad.sum(0))
                d[first_class:] += scores_grad
            result[..., part][items, kept] = d.permute(1, 2, 0, 3).to(result.dtype)
    return result


@_gradient.register_fake
def _(
    grad: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor, masks: torch.Tensor, first_class: int, log: bool
) -> torch.Tensor:
    return torch.empty_like(logits, memory_format=torch.contiguous_format)


def _keep(ctx: Any, inputs: tuple, output: torch.Tensor) -> None:
    logits, labels, masks, *options = inputs
    ctx.save_for_backward(logits, labels, masks)
    ctx.options = options


def _backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    return _gradient(grad, *ctx.saved_tensors, *ctx.options), None, None, None, None


_sums.register_autograd(_backward, setup_context=_keep)


def _indicators(labels: torch.Tensor, masks: torch.Tensor, classes: range, dtype: torch.dtype) -> torch.Tensor:
    """Where the raters have each class, then the masks, ``[classes, B, M + E, v]``."""
    raters = labels.shape[1]
    result = torch.empty(
        (len(classes), len(labels), raters + masks.shape[1], labels.shape[2]), dtype=dtype, device=labels.device
    )
    index = torch.tensor(classes, dtype=labels.dtype, device=labels.device)
    torch.eq(labels, index[:, None, None, None], out=result[:, :, :raters])
    result[:, :, raters:] = masks
    return result
