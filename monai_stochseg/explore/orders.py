# SPDX-License-Identifier: Apache-2.0
"""How samples are ordered: how likely each is, and how far from the single answer."""

from __future__ import annotations

import numpy as np
import torch

from monai_stochseg.metrics import LabelMapDistance

__all__ = ["distances", "log_likelihoods"]


def log_likelihoods(labels: np.ndarray, weights: np.ndarray, num_classes: int) -> np.ndarray:
    """
    Log-likelihood in nats of each sample by the classes' frequencies among all samples, voxel by voxel.

    It needs no network, so that it means the same for every method, and it knows no covariance: a sample is likely
    where it says what most samples say. The frequency of a class in a voxel is ``(N w + 1/2) / (N + C/2)``, with ``w``
    the weight of the samples that have it there (the estimate of Krichevsky and Trofimov), which is never 0.

    Args:
        labels: uint8 ``[N, V]``; where all samples agree, nothing distinguishes them.
        weights: ``[N]``, summing to 1.
        num_classes: C.
    """
    number = len(labels)
    total = np.zeros(number)
    for c in range(num_classes):
        has = labels == c
        frequency = (number * (weights @ has) + 0.5) / (number + num_classes / 2)
        total += has @ np.log(frequency)
    return total


def distances(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """
    Distances of all pairs of label maps, ``[N, N]``: 1 minus the intersection over union, a mean over the classes but
    the background, see :py:class:`monai_stochseg.metrics.LabelMapDistance`.

    Args:
        labels: uint8 ``[N, V]``.
        num_classes: C.
    """
    if not labels.shape[1]:
        return np.zeros((len(labels), len(labels)))
    result: np.ndarray = LabelMapDistance(num_classes)({"labels": torch.from_numpy(labels)}).double().numpy()
    return result
