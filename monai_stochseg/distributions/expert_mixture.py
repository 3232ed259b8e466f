# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable
from functools import reduce

import torch

from monai_stochseg.distributions.arguments import check_arguments, check_at_least, check_axes
from monai_stochseg.distributions.base import PredictiveDistribution
from monai_stochseg.distributions.latent import decode_latents
from monai_stochseg.distributions.noise import draw_latent
from monai_stochseg.distributions.weights import check_probabilities

__all__ = ["ExpertMixtureDistribution", "sample_weights"]


class ExpertMixtureDistribution(PredictiveDistribution):
    """
    Label maps decoded from a latent with a mixture of K isotropic normals as its prior, sum_k pi_k N(m_k, sigma_k^2 I).

    In the standard representation a sample draws its expert from pi, then the latent from the expert. In the compact
    one every expert gives S samples, all samples of the first expert first, and each weighs pi_k / S.

    Args:
        gate: pi, the probabilities of the experts ``[B, K]``, each row summing to 1.
        mean: m, ``[K, L]``.
        log_std: log of sigma, ``[K]``.
        decoder: maps one latent per image ``[B, L]`` to logits ``[B, C, *S]``.
        num_samples: S of the compact representation. Default: the standard one, whose samples weigh the same.

    Raises:
        ValueError: when the gate is no ``[B, K]`` probabilities, or num_samples is below 1.
    """

    @check_arguments
    def __init__(
        self,
        gate: torch.Tensor,
        mean: torch.Tensor,
        log_std: torch.Tensor,
        decoder: Callable[[torch.Tensor], torch.Tensor],
        num_samples: int | None = None,
    ) -> None:
        check_axes("[K, L]", 2, mean=mean)
        if log_std.shape != mean.shape[:1]:
            raise ValueError(f"log_std must be [K] of mean [K, L], ({len(mean)},), got {tuple(log_std.shape)}.")
        check_axes("[B, K]", 2, gate=gate)
        check_probabilities("gate", gate, (len(gate), len(mean)), "[B, K] of mean [K, L]")
        if num_samples is not None:
            check_at_least(1, num_samples=num_samples)
        self.gate = gate.detach()
        self.mean = mean
        self.log_std = log_std
        self.num_samples = num_samples
        self.weights = None if num_samples is None else sample_weights(self.gate, num_samples)
        self._decoder = decoder

    @check_arguments
    @torch.no_grad()
    def sample_logits(self, n: int, generator: torch.Generator | None = None) -> torch.Tensor:
        """
        Draw ``n`` logit maps without gradients, ``[B, n, C, *S]``; the chunks of a standard draw equal the whole draw.

        Raises:
            ValueError: for ``n`` below 1, or other than K * S in the compact representation.
        """
        check_at_least(1, n=n)
        batch, num_experts = self.gate.shape
        if self.num_samples is None:
            gate = self.gate if generator is None else self.gate.to(generator.device)
        elif n != num_experts * self.num_samples:
            raise ValueError(
                f"the compact representation has {num_experts} experts of {self.num_samples} samples each, "
                f"{num_experts * self.num_samples} in all: n={n} must be that, or num_samples another, or the "
                "representation 'standard'."
            )
        samples = []
        for i in range(n):  # one by one: the same draws in chunks of any size, and the memory of one
            if self.num_samples is None:
                expert = torch.multinomial(gate, 1, generator=generator).squeeze(1).to(self.mean.device)
            else:
                expert = torch.full((batch,), i // self.num_samples, device=self.mean.device)
            samples.append(self._decoder(draw_latent(self.mean[expert], self.log_std[expert, None], generator)))
        return torch.stack(samples, dim=1)

    @check_arguments
    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """
        The logits of given latents, with gradients.

        Args:
            latents: ``[B, n, L]``.

        Returns:
            logits ``[B, n, C, *S]``.

        Raises:
            ValueError: when the latents do not fit the mixture.
        """
        return decode_latents(self._decoder, latents, len(self.gate), self.mean.shape[1])

    @torch.no_grad()
    def mode_logits(self) -> torch.Tensor:
        """
        Log of the experts' mean softmax, each at the mean of its latent, weighted by pi, without gradients,
        ``[B, C, *S]``: as :py:class:`monai_stochseg.distributions.HypothesesDistribution`, a single answer whose
        expected cross entropy is low, which no single expert's is where experts disagree.
        """
        return reduce(torch.logaddexp, map(self._weighted_log_softmax, self.mean, self.gate.log().unbind(1)))

    def _weighted_log_softmax(self, latent: torch.Tensor, log_weight: torch.Tensor) -> torch.Tensor:
        logits = self._decoder(latent.expand(self.gate.shape[0], -1))
        return logits.log_softmax(1) + log_weight.reshape(-1, *[1] * (logits.dim() - 1))


def sample_weights(gate: torch.Tensor, num_samples: int) -> torch.Tensor:
    """pi_k / S of S samples of every expert, ``[B, K * S]``."""
    return gate.repeat_interleave(num_samples, dim=1) / num_samples
