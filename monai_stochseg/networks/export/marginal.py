# SPDX-License-Identifier: Apache-2.0
"""Deterministic networks: their one answer, and the nulls that learn no covariance."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from monai_stochseg.distributions.arguments import check_arguments
from monai_stochseg.distributions.base import IMPOSSIBLE_LOGIT
from monai_stochseg.networks.export.base import SampleExport, standard_uniform
from monai_stochseg.networks.nets.null_sampler import IndependentSampler, ThresholdSampler

__all__ = ["DeterministicExport", "IndependentExport", "ThresholdExport"]


class DeterministicExport(SampleExport):
    """
    Any deterministic network as a function of image and noise, so that all methods have the same inputs: each sample is
    the network's answer, and of the noise, one number a sample, only its shape is used.

    Args:
        network: maps images ``[B, C_in, *S]`` to logits ``[B, C, *S]``.
    """

    @check_arguments
    def __init__(self, network: nn.Module) -> None:
        super().__init__(network, fixed=1)

    def sample_logits(self, image: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """See :py:meth:`SampleExport.sample_logits`."""
        logits: torch.Tensor = self.network(image)
        return logits.unsqueeze(1).expand(-1, noise.shape[1], *logits.shape[1:])


class ThresholdExport(SampleExport):
    """
    A deterministic network's probabilities cut at one threshold a sample, the noise's distribution function; see
    :py:class:`monai_stochseg.distributions.ThresholdDistribution`.

    Args:
        network: the sampler.
    """

    @check_arguments
    def __init__(self, network: ThresholdSampler) -> None:
        super().__init__(network, fixed=1)
        self.order = network.order

    def sample_logits(self, image: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """See :py:meth:`SampleExport.sample_logits`."""
        logits = self.network(image)
        return _cut(logits, noise.reshape(*noise.shape, *[1] * (logits.dim() - 2)), self.order)


class IndependentExport(SampleExport):
    """
    A deterministic network whose samples draw each voxel by itself, with a number of the noise for each voxel; see
    :py:class:`monai_stochseg.distributions.IndependentDistribution`.

    Args:
        network: the sampler.
    """

    @check_arguments
    def __init__(self, network: IndependentSampler) -> None:
        super().__init__(network, per_voxel=1)

    def logits_size(self, image: torch.Tensor) -> Sequence[int]:
        """Those of the network: unpadded convolutions give fewer voxels than the image has."""
        return self.network(image).shape[2:]

    def sample_logits(self, image: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """See :py:meth:`SampleExport.sample_logits`."""
        logits = self.network(image)
        self.check_noise(noise, logits.shape[2:])
        return _cut(logits, noise.reshape(noise.shape[0], noise.shape[1], 1, *logits.shape[2:]))


def _cut(logits: torch.Tensor, noise: torch.Tensor, order: Sequence[int] | None = None) -> torch.Tensor:
    """
    Logits ``[B, N, C, *S]`` of the classes at which the cumulative probabilities pass the noise.

    Args:
        logits: ``[B, C, *S]``.
        noise: ``[B, N, 1, *S]``, or 1 in the place of S.
        order: of the classes.
    """
    classes = logits.shape[1]
    places = torch.tensor(list(range(classes) if order is None else order), device=logits.device)
    cumulative = logits.softmax(1)[:, places].cumsum(1)[:, :-1].unsqueeze(1)  # [B, 1, C - 1, *S]
    drawn = places[(standard_uniform(noise) >= cumulative).sum(2, keepdim=True)]
    each = torch.arange(classes, device=logits.device).reshape(-1, *[1] * (logits.dim() - 2))
    return (drawn != each) * IMPOSSIBLE_LOGIT
