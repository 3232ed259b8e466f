# SPDX-License-Identifier: Apache-2.0
"""From logits to what is kept of samples: label maps of one byte a voxel, and the classes' mean probabilities."""

from __future__ import annotations

from typing import NamedTuple

import torch

_MAX_CLASSES = 256  # label maps are uint8
_FEW_CLASSES = 8


class LabelMaps(NamedTuple):
    """
    What is kept of N samples: ``labels``, the most probable classes, uint8 ``[B, N, *S]``; ``probabilities``, the
    samples' mean softmax, ``[B, C, *S]``; ``expected_entropy``, the mean of the entropies of their softmax in nats,
    ``[B, 1, *S]``, where it was asked for, else None.
    """

    labels: torch.Tensor
    probabilities: torch.Tensor
    expected_entropy: torch.Tensor | None = None


def empty_label_maps(logits: torch.Tensor, n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """
    For ``n`` samples, some of which are given as logits ``[B, m, C, *S]``: label maps ``[B, n, *S]`` to be written,
    and a sum of probabilities ``[B, C, *S]``, which is 0, in float32 where the logits are of half precision.

    Raises:
        ValueError: when there are more than 256 classes.
    """
    classes = logits.shape[2]
    if classes > _MAX_CLASSES:
        raise ValueError(f"label maps are kept as uint8: at most {_MAX_CLASSES} classes, got {classes}.")
    dtype = torch.promote_types(logits.dtype, torch.float32)  # half precision cannot count past 256
    labels = torch.zeros((len(logits), n, *logits.shape[3:]), dtype=torch.uint8, device=logits.device)
    return labels, torch.zeros_like(logits[:, 0], dtype=dtype)


def most_probable_class(logits: torch.Tensor) -> torch.Tensor:
    """The class of the largest logit, the first of equal ones: of ``[N, C, ...]`` a uint8 tensor ``[N, ...]``."""
    if logits.shape[1] > _FEW_CLASSES or logits.device.type != "cpu":
        return logits.max(1).indices.to(torch.uint8)
    # On a CPU the index of a maximum across the classes is not vectorised. The label is the number of classes before
    # the first that reaches the maximum.
    lower = (logits < logits.amax(1, keepdim=True)).view(torch.uint8)
    all_lower = lower[:, 0].clone()
    labels = all_lower.clone()
    for c in range(1, logits.shape[1] - 1):
        labels.add_(all_lower.mul_(lower[:, c]))
    return labels


def add_samples(
    logits: torch.Tensor,
    labels: torch.Tensor,
    probabilities: torch.Tensor,
    weights: torch.Tensor | None = None,
    entropy: torch.Tensor | None = None,
) -> None:
    """
    Write the samples' label maps, and add their probabilities and entropies.

    Args:
        logits: ``[B, n, C, *S]``.
        labels: uint8 ``[B, n, *S]``, written.
        probabilities: ``[B, C, *S]``; the sum of the samples' softmax is added.
        weights: of the samples in both sums, ``[B, n]``. Default: 1.
        entropy: ``[B, 1, *S]``; the sum of the entropies of the samples' softmax is added. Default: none is computed.
    """
    for i, sample in enumerate(logits.unbind(1)):
        labels[:, i] = most_probable_class(sample)
        softmax = sample.softmax(1, dtype=probabilities.dtype)
        weight = None if weights is None else weights[:, i].reshape(-1, *[1] * (softmax.dim() - 1))
        if entropy is not None:
            of_sample = softmax_entropy(softmax)
            entropy += of_sample if weight is None else of_sample * weight
        probabilities += softmax if weight is None else softmax * weight


def softmax_entropy(probabilities: torch.Tensor) -> torch.Tensor:
    """Entropy in nats of probabilities ``[B, C, ...]``, ``[B, 1, ...]``."""
    return torch.special.entr(probabilities).sum(1, keepdim=True)
