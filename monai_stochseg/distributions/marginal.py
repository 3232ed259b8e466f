# SPDX-License-Identifier: Apache-2.0
"""Distributions that learn no covariance: what any deterministic network's probabilities give for nothing."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch

from monai_stochseg.distributions.arguments import check_arguments, check_at_least
from monai_stochseg.distributions.base import (
    IMPOSSIBLE_LOGIT,
    PredictiveDistribution,
    full_precision,
)
from monai_stochseg.distributions.noise import draw_uniform


def check_logits(name: str, logits: torch.Tensor) -> None:
    """Raise a ValueError for logits that are not ``[B, C, *S]`` with C of at least 2, or of which an axis is empty."""
    if logits.ndim < 3 or logits.shape[1] < 2 or not logits.numel():
        raise ValueError(
            f"{name} must be [B, C, *S], none of its axes empty, with C of at least 2, got shape {tuple(logits.shape)}."
        )


class _MarginalDistribution(PredictiveDistribution):
    """
    Label maps with the softmax of ``logits`` ``[B, C, *S]`` as their marginals: in every voxel the class at which the
    cumulative probability, in the ``order`` of the classes, passes a uniform number. Half precision becomes float32.
    """

    @check_arguments
    def __init__(self, logits: torch.Tensor, order: Sequence[int] | None = None) -> None:
        check_logits("logits", logits)
        classes = range(logits.shape[1])
        order = list(classes if order is None else order)
        if sorted(order) != list(classes):
            raise ValueError(
                f"order must name each class 0 to {classes[-1]} once, got {order} for logits {tuple(logits.shape)}."
            )
        self.logits = full_precision(logits)
        self.order = order

    def mode_logits(self) -> torch.Tensor:
        """The logits given, ``[B, C, *S]``."""
        return self.logits

    @check_arguments
    @torch.no_grad()
    def sample_logits(self, n: int, generator: torch.Generator | None = None) -> torch.Tensor:
        """Draw ``n`` label maps as logits ``[B, n, C, *S]``, 0 for the class drawn and -10,000 for the others."""
        check_at_least(1, n=n)
        logits = self.logits
        # The last sum is 1: it is left out, for rounding may put it below a uniform number.
        cumulative = logits.softmax(1)[:, self.order].cumsum(1)[:, :-1]
        order = torch.tensor(self.order, device=logits.device)
        samples = []
        for _ in range(n):  # one by one: the same draws in chunks of any size
            uniform = draw_uniform(self._uniform_shape(), logits, generator)
            drawn = order[(uniform >= cumulative).sum(1, keepdim=True)]
            samples.append(torch.full_like(logits, IMPOSSIBLE_LOGIT).scatter_(1, drawn, 0))
        return torch.stack(samples, dim=1)

    @abstractmethod
    def _uniform_shape(self) -> tuple[int, ...]:
        """Shape of the uniform numbers of one sample, to be broadcast against ``[B, 1, *S]``."""


class ThresholdDistribution(_MarginalDistribution):
    """
    One uniform threshold per sample, shared by all voxels: the samples of an item are nested level sets.

    In a binary task the foreground of a sample is where its probability exceeds the threshold. For C classes a voxel
    takes the class at which the cumulative probability passes the threshold, the classes added in ``order``. The
    marginals are those of the logits; voxels depend on each other as strongly as these allow, and nothing of it is
    learned: a method that does not beat this has not shown that it learned a covariance.

    Args:
        logits: ``[B, C, *S]``, of any deterministic network. Half precision becomes float32.
        order: the classes from the first to the last to be added, such as nested structures from the outermost inwards;
            None: ``0, 1, ..., C - 1``.

    Raises:
        ValueError: when the shape does not fit, or ``order`` is not a permutation of the classes.
    """

    def _uniform_shape(self) -> tuple[int, ...]:
        return (self.logits.shape[0], *[1] * (self.logits.ndim - 1))


class IndependentDistribution(_MarginalDistribution):
    """
    Each voxel drawn by itself from the softmax of the logits: the right marginals and no covariance.

    Args:
        logits: ``[B, C, *S]``, of any deterministic network. Half precision becomes float32.

    Raises:
        ValueError: when the shape does not fit.
    """

    @check_arguments
    def __init__(self, logits: torch.Tensor) -> None:
        super().__init__(logits)

    def _uniform_shape(self) -> tuple[int, ...]:
        return (self.logits.shape[0], 1, *self.logits.shape[2:])


class DeterministicDistribution(PredictiveDistribution):
    """
    A single answer: every sample is the logits themselves.

    Args:
        logits: ``[B, C, *S]``, of any deterministic network. Half precision becomes float32.

    Raises:
        ValueError: when the shape does not fit.
    """

    @check_arguments
    def __init__(self, logits: torch.Tensor) -> None:
        check_logits("logits", logits)
        self.logits = full_precision(logits)

    def mode_logits(self) -> torch.Tensor:
        """The logits given, ``[B, C, *S]``."""
        return self.logits

    @check_arguments
    def sample_logits(self, n: int, generator: torch.Generator | None = None) -> torch.Tensor:
        """The logits given ``n`` times, ``[B, n, C, *S]``; nothing is drawn from the generator."""
        check_at_least(1, n=n)
        return self.logits.detach().unsqueeze(1).expand(-1, n, *self.logits.shape[1:])
