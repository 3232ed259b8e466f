# SPDX-License-Identifier: Apache-2.0
"""Any deterministic network as a sampler that learns no covariance: the nulls that a method must beat."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from monai_stochseg.distributions import (
    DeterministicDistribution,
    IndependentDistribution,
    PredictiveDistribution,
    ThresholdDistribution,
)


class DeterministicSampler(nn.Module):
    """
    A deterministic network whose every sample is its answer.

    Args:
        network: maps images ``[B, C_in, *S]`` to logits ``[B, C, *S]``.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The network's logits ``[B, C, *S]`` of an image ``[B, C_in, *S]``."""
        logits: torch.Tensor = self.network(x)
        return logits

    def predictive(self, x: torch.Tensor) -> PredictiveDistribution:
        """:py:class:`monai_stochseg.distributions.DeterministicDistribution` of an image ``[B, C_in, *S]``."""
        return DeterministicDistribution(self(x))


class ThresholdSampler(DeterministicSampler):
    """
    A deterministic network's probabilities cut at one uniform threshold per sample, shared by all voxels.

    Args:
        network: maps images ``[B, C_in, *S]`` to logits ``[B, C, *S]``.
        order: the classes from the first to the last to be added; None: ``0, 1, ..., C - 1``.
    """

    def __init__(self, network: nn.Module, order: Sequence[int] | None = None) -> None:
        super().__init__(network)
        self.order = order

    def predictive(self, x: torch.Tensor) -> PredictiveDistribution:
        """
        :py:class:`monai_stochseg.distributions.ThresholdDistribution` of an image ``[B, C_in, *S]``.

        Raises:
            ValueError: when ``order`` is not a permutation of the network's classes.
        """
        return ThresholdDistribution(self(x), self.order)


class IndependentSampler(DeterministicSampler):
    """
    A deterministic network whose samples draw each voxel by itself from the softmax.

    Args:
        network: maps images ``[B, C_in, *S]`` to logits ``[B, C, *S]``.
    """

    def predictive(self, x: torch.Tensor) -> PredictiveDistribution:
        """:py:class:`monai_stochseg.distributions.IndependentDistribution` of an image ``[B, C_in, *S]``."""
        return IndependentDistribution(self(x))
