# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import torch

from monai_stochseg.distributions.arguments import check_arguments
from monai_stochseg.distributions.base import PredictiveDistribution, full_precision

__all__ = ["ScaledDistribution"]


class ScaledDistribution(PredictiveDistribution):
    """
    Any predictive distribution whose logits are scaled and shifted class by class, ``logits * scale + bias``.

    Args:
        distribution: distribution over logits ``[B, C, *S]``; the weights of its samples are kept.
        scale: of each class, ``[C]``.
        bias: of each class, ``[C]``.

    Raises:
        ValueError: when scale or bias are not ``[C]``; at the first draw, when there are other classes.
    """

    @check_arguments
    def __init__(self, distribution: PredictiveDistribution, scale: torch.Tensor, bias: torch.Tensor) -> None:
        if scale.ndim != 1 or scale.shape != bias.shape or len(scale) < 2:
            raise ValueError(
                f"scale and bias must be [C], one value for each class, got {tuple(scale.shape)} and "
                f"{tuple(bias.shape)}."
            )
        self.distribution = distribution
        self.scale = scale
        self.bias = bias
        self.weights = distribution.weights

    def mode_logits(self) -> torch.Tensor:
        """The scaled mode, ``[B, C, *S]``."""
        return self._scaled(self.distribution.mode_logits(), 1)

    @check_arguments
    @torch.no_grad()
    def sample_logits(self, n: int, generator: torch.Generator | None = None) -> torch.Tensor:
        """The scaled samples, ``[B, n, C, *S]``."""
        samples = self.distribution.sample_logits(n, generator)
        self.weights = self.distribution.weights
        return self._scaled(samples, 2)

    @check_arguments
    def given_weights(self, generator: torch.Generator | None = None) -> ScaledDistribution:
        """That of the distribution given, scaled."""
        return ScaledDistribution(self.distribution.given_weights(generator), self.scale, self.bias)

    def _scaled(self, logits: torch.Tensor, axis: int) -> torch.Tensor:
        logits = full_precision(logits)
        if logits.shape[axis] != len(self.scale):
            raise ValueError(f"scale has {len(self.scale)} classes, but the logits have {logits.shape[axis]}.")
        shape = [-1, *[1] * (logits.ndim - axis - 1)]
        return logits * self.scale.to(logits).reshape(shape) + self.bias.to(logits).reshape(shape)
