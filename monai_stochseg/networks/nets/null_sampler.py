# SPDX-License-Identifier: Apache-2.0
"""Any deterministic network as a sampler that learns no covariance: the nulls that a method must beat."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from monai_stochseg.distributions import (
    DeterministicDistribution,
    IndependentDistribution,
    MaskedDistribution,
    PredictiveDistribution,
    ThresholdDistribution,
)
from monai_stochseg.distributions.arguments import check_arguments
from monai_stochseg.distributions.images import run_network
from monai_stochseg.distributions.masked import check_mask


class DeterministicSampler(nn.Module):
    """
    A deterministic network whose every sample is its answer.

    Args:
        network: maps images ``[B, C_in, *S]`` to logits ``[B, C, *S]``.
    """

    @check_arguments
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The network's logits ``[B, C, *S]`` of an image ``[B, C_in, *S]``."""
        if torch.jit.is_scripting():  # which knows neither exceptions nor networks as arguments
            scripted: torch.Tensor = self.network(x)
            return scripted
        return run_network(self.network, x, "network")

    @check_arguments
    def distribution(self, logits: torch.Tensor, mask: torch.Tensor | None = None) -> PredictiveDistribution:
        """
        Args:
            logits: output of :py:meth:`forward`, whole or stitched from windows, ``[B, C, *S]``.
            mask: region ``[B, 1, *S]`` outside which samples are background.
        """
        if mask is not None:
            check_mask(mask, logits)
        distribution = self._distribution(logits)
        return distribution if mask is None else MaskedDistribution(distribution, mask)

    def predictive(self, x: torch.Tensor) -> PredictiveDistribution:
        """The predictive distribution of an image ``[B, C_in, *S]``."""
        return self.distribution(self(x))

    def _distribution(self, logits: torch.Tensor) -> PredictiveDistribution:
        return DeterministicDistribution(logits)


class ThresholdSampler(DeterministicSampler):
    """
    A deterministic network's probabilities cut at one uniform threshold per sample, shared by all voxels, see
    :py:class:`monai_stochseg.distributions.ThresholdDistribution`.

    Args:
        network: maps images ``[B, C_in, *S]`` to logits ``[B, C, *S]``.
        order: the classes from the first to the last to be added; None: ``0, 1, ..., C - 1``.
    """

    @check_arguments
    def __init__(self, network: nn.Module, order: Sequence[int] | None = None) -> None:
        super().__init__(network)
        self.order = order

    def _distribution(self, logits: torch.Tensor) -> PredictiveDistribution:
        return ThresholdDistribution(logits, self.order)


class IndependentSampler(DeterministicSampler):
    """
    A deterministic network whose samples draw each voxel by itself from the softmax, see
    :py:class:`monai_stochseg.distributions.IndependentDistribution`.

    Args:
        network: maps images ``[B, C_in, *S]`` to logits ``[B, C, *S]``.
    """

    def _distribution(self, logits: torch.Tensor) -> PredictiveDistribution:
        return IndependentDistribution(logits)
