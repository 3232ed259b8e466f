# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import NamedTuple

import torch

from monai_stochseg.distributions import PredictiveDistribution
from monai_stochseg.distributions.arguments import check_arguments, check_at_least


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
        chunk_size: samples held as logits at a time. A distribution whose samples carry weights is drawn whole; a
            :py:class:`LowRankNormal` holds blocks of voxels, whatever the number is.

    Raises:
        ValueError: when num_samples or chunk_size is below 1, or there are more than 256 classes.
    """
    check_at_least(1, num_samples=num_samples, chunk_size=chunk_size)
    labels, probabilities = distribution.label_maps(num_samples, generator, chunk_size)
    if distribution.geometry is not None:
        labels, probabilities = distribution.geometry.attach(labels), distribution.geometry.attach(probabilities)
    return Samples(labels, probabilities, distribution.weights)
