# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import NamedTuple

import torch

from monai_stochseg.distributions import PredictiveDistribution
from monai_stochseg.distributions.arguments import check_arguments, check_at_least


class Samples(NamedTuple):
    """
    Label maps drawn from a predictive distribution: ``labels`` ``[B, N, *S]`` (uint8), ``probabilities``, the marginal
    class probabilities ``[B, C, *S]`` (the samples' mean softmax), ``weights`` ``[B, N]`` or None where samples weigh
    the same, and ``expected_entropy`` ``[B, 1, *S]``, the mean entropy of the samples' softmax in nats, or None where
    it was not asked for. Where the distribution has the image's geometry, the maps are MetaTensors with it.
    """

    labels: torch.Tensor
    probabilities: torch.Tensor
    weights: torch.Tensor | None
    expected_entropy: torch.Tensor | None = None


@check_arguments
@torch.no_grad()
def draw_samples(
    distribution: PredictiveDistribution,
    num_samples: int,
    generator: torch.Generator | None = None,
    chunk_size: int = 1,
    with_entropy: bool = False,
) -> Samples:
    """
    Draw label maps in chunks, so that memory grows by one byte per voxel and sample and not by C floats.

    Args:
        distribution: where to draw from.
        num_samples: number of samples N.
        generator: source of the noise; the default is PyTorch's global one.
        chunk_size: samples held as logits at a time. A distribution whose samples carry weights is drawn whole; a
            :py:class:`LowRankNormal` holds blocks of voxels, whatever the number is.
        with_entropy: whether to give the expected entropy: the predictive entropy less it is the mutual information of
            label and sample, see :py:func:`monai_stochseg.metrics.compute_entropy_decomposition`.

    Raises:
        ValueError: when num_samples or chunk_size is below 1, or there are more than 256 classes.
    """
    check_at_least(1, num_samples=num_samples, chunk_size=chunk_size)
    labels, probabilities, entropy = distribution.label_maps(num_samples, generator, chunk_size, with_entropy)
    if distribution.geometry is not None:
        attach = distribution.geometry.attach
        labels, probabilities = attach(labels), attach(probabilities)
        entropy = None if entropy is None else attach(entropy)
    return Samples(labels, probabilities, distribution.weights, entropy)
