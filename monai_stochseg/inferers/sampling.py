# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import NamedTuple

import torch

from monai_stochseg.distributions import PredictiveDistribution, full_precision
from monai_stochseg.distributions.arguments import check_arguments, check_at_least
from monai_stochseg.distributions.base import plain


class Samples(NamedTuple):
    """
    Label maps drawn from a predictive distribution: ``labels`` ``[B, N, *S]`` (uint8), ``probabilities``, the marginal
    class probabilities ``[B, C, *S]`` (the samples' mean softmax), and ``weights`` ``[B, N]`` or None where samples
    weigh the same. Where the distribution has the image's geometry, labels and probabilities are MetaTensors with it.
    """

    labels: torch.Tensor
    probabilities: torch.Tensor
    weights: torch.Tensor | None


@check_arguments
@torch.no_grad()
def draw_samples(
    distribution: PredictiveDistribution,
    num_samples: int,
    generator: torch.Generator | None = None,
    chunk_size: int = 1,
) -> Samples:
    """
    Draw label maps in chunks, so that memory grows by one byte per voxel and sample and not by C floats.

    Args:
        distribution: where to draw from.
        num_samples: number of samples N.
        generator: source of the noise; the default is PyTorch's global one.
        chunk_size: samples held as logits at a time. A distribution whose samples carry weights is drawn whole.

    Raises:
        ValueError: when num_samples or chunk_size is below 1, or there are more than 256 classes.
    """
    check_at_least(1, num_samples=num_samples, chunk_size=chunk_size)
    mode = plain(distribution.mode_logits())
    if mode.shape[1] > 256:
        raise ValueError(f"label maps are kept as uint8: at most 256 classes, got {mode.shape[1]}.")
    labels = torch.empty((mode.shape[0], num_samples, *mode.shape[2:]), dtype=torch.uint8, device=mode.device)
    probabilities = torch.zeros_like(full_precision(mode))  # bfloat16 cannot count past 256
    if distribution.weights is not None:
        chunk_size = num_samples
    for start in range(0, num_samples, chunk_size):
        logits = plain(distribution.sample_logits(min(chunk_size, num_samples - start), generator))
        for i, sample in enumerate(logits.unbind(1), start):
            labels[:, i] = sample.max(1).indices  # argmax across the classes is several times slower on a CPU
            softmax = full_precision(sample).softmax(1)
            if distribution.weights is not None:
                softmax = softmax * distribution.weights[:, i].reshape(-1, *[1] * (softmax.dim() - 1))
            probabilities += softmax
    if distribution.weights is None:
        probabilities /= num_samples
    if distribution.geometry is not None:
        labels, probabilities = distribution.geometry.attach(labels), distribution.geometry.attach(probabilities)
    return Samples(labels, probabilities, distribution.weights)
