# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import torch

from monai_stochseg.distributions.base import PredictiveDistribution, check_num_samples, full_precision


class HypothesesDistribution(PredictiveDistribution):
    """
    One of M hypotheses, such as the members of an ensemble or the heads of a network, drawn per item and sample.

    Args:
        logits: ``[B, M, C, *S]``.
        weights: probabilities of the hypotheses ``[B, M]``, each row summing to 1. Default: equal.

    Half-precision logits are computed in float32.

    Raises:
        ValueError: when a shape does not fit, or the weights are no probabilities.
    """

    def __init__(self, logits: torch.Tensor, weights: torch.Tensor | None = None) -> None:
        if logits.dim() < 4:
            raise ValueError(f"logits must be [B, M, C, *S], got shape {tuple(logits.shape)}.")
        if weights is None:
            weights = torch.full(logits.shape[:2], 1 / logits.shape[1], device=logits.device)
        elif weights.shape != logits.shape[:2]:
            raise ValueError(f"weights must be [B, M] = {tuple(logits.shape[:2])}, got {tuple(weights.shape)}.")
        elif (weights < 0).any() or not torch.allclose(weights.sum(1), weights.new_ones(()), atol=1e-3):
            raise ValueError(f"weights must not be negative and sum to 1 per item, got {weights.tolist()}.")
        self.logits = full_precision(logits)
        self.hypothesis_weights = weights.to(self.logits)

    @torch.no_grad()
    def sample_logits(self, n: int, generator: torch.Generator | None = None) -> torch.Tensor:
        """Draw ``n`` hypotheses without gradients, ``[B, n, C, *S]``; the chunks of a draw equal the whole draw."""
        check_num_samples(n)
        weights = self.hypothesis_weights if generator is None else self.hypothesis_weights.to(generator.device)
        items = torch.arange(len(weights), device=self.logits.device)
        draws = [torch.multinomial(weights, 1, generator=generator).squeeze(1).to(items.device) for _ in range(n)]
        return torch.stack([self.logits[items, hypothesis] for hypothesis in draws], dim=1)

    def mode_logits(self) -> torch.Tensor:
        """
        Log of the hypotheses' mean softmax, ``[B, C, *S]``: the one answer with the least expected cross entropy. A
        mean of the logits would let one confident hypothesis overrule the others.
        """
        weights = self.hypothesis_weights.reshape(*self.hypothesis_weights.shape, *[1] * (self.logits.dim() - 2))
        return (self.logits.log_softmax(2) + weights.log()).logsumexp(1)
