# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import torch

from monai_stochseg.distributions.arguments import check_arguments, check_at_least, check_axes
from monai_stochseg.distributions.base import PredictiveDistribution, full_precision
from monai_stochseg.distributions.deck import Deck
from monai_stochseg.distributions.noise import draw_uniform
from monai_stochseg.distributions.weights import check_probabilities


class HypothesesDistribution(PredictiveDistribution):
    """
    One of M hypotheses, such as the members of an ensemble or the heads of a network, drawn per item and sample.

    Hypotheses that are equally probable are drawn without replacement, in an order that is random for each item: of M
    samples each is one hypothesis, as in the ensembles and heads of Kohl et al. 2018
    (https://arxiv.org/abs/1806.05034); fewer samples are different ones; of more, each hypothesis is drawn ``n // M``
    times, and the rest without replacement again. Given ``weights`` they are drawn with replacement.

    Args:
        logits: ``[B, M, C, *S]``.
        weights: probabilities of the hypotheses ``[B, M]``, each row summing to 1. Default: equal.

    Half-precision logits are computed in float32.

    Raises:
        ValueError: when a shape does not fit, or the weights are no probabilities.
    """

    @check_arguments
    def __init__(self, logits: torch.Tensor, weights: torch.Tensor | None = None) -> None:
        check_axes("[B, M, C, *S]", 4, logits=logits)
        self.logits = full_precision(logits)
        self.deck = Deck() if weights is None else None
        if weights is None:
            weights = self.logits.new_full(logits.shape[:2], 1 / logits.shape[1])
        check_probabilities("weights", weights, logits.shape[:2], "[B, M] of logits")
        self.hypothesis_weights = weights.to(self.logits)

    @check_arguments
    @torch.no_grad()
    def sample_logits(self, n: int, generator: torch.Generator | None = None) -> torch.Tensor:
        """Draw ``n`` hypotheses without gradients, ``[B, n, C, *S]``; the chunks of a draw equal the whole draw."""
        check_at_least(1, n=n)
        weights = self.hypothesis_weights if generator is None else self.hypothesis_weights.to(generator.device)
        if self.deck is None:
            draws = [torch.multinomial(weights, 1, generator=generator) for _ in range(n)]
            return take_hypotheses(self.logits, torch.cat(draws, dim=1))
        self.deck.open(generator)
        order = self.deck.deal(n, lambda _: draw_uniform(weights.shape, weights, generator).argsort(1))
        self.deck.close(generator)
        return take_hypotheses(self.logits, order)

    def mode_logits(self) -> torch.Tensor:
        """
        Log of the hypotheses' mean softmax, ``[B, C, *S]``: the one answer with the least expected cross entropy. A
        mean of the logits would let one confident hypothesis overrule the others.
        """
        weights = self.hypothesis_weights.reshape(*self.hypothesis_weights.shape, *[1] * (self.logits.dim() - 2))
        return (self.logits.log_softmax(2) + weights.log()).logsumexp(1)


def take_hypotheses(logits: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
    """Of logits ``[B, M, C, *S]`` the hypotheses of the indices ``[B, n]``, ``[B, n, C, *S]``."""
    items = torch.arange(len(logits), device=logits.device)
    return torch.stack([logits[items, own] for own in indices.to(items.device).unbind(1)], dim=1)
