# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable

import torch

from monai_stochseg.distributions.arguments import check_arguments, check_at_least, check_axes, check_same_shape
from monai_stochseg.distributions.base import PredictiveDistribution
from monai_stochseg.distributions.latent import LatentDistribution
from monai_stochseg.distributions.noise import draw_latent

__all__ = ["BayesianLatentDistribution"]

Decoder = Callable[[torch.Tensor], torch.Tensor]


class BayesianLatentDistribution(PredictiveDistribution):
    """
    Label maps of a network with a latent vector and random weights: a sample has a draw of both. The images of a batch
    share the weights of a sample.

    :py:meth:`given_weights` and :py:meth:`given_latent` keep one of the two, so that samples differ in the other alone.

    Args:
        mean: the prior's mean, ``[B, L]``.
        log_std: log of the prior's standard deviations, ``[B, L]``.
        draw_decoder: draws weights from a generator, and gives the map of one latent per image ``[B, L]`` to logits
            ``[B, C, *S]`` with them.
        mean_decoder: the same map with the weights' means.

    Raises:
        ValueError: when mean and log_std are not of one shape ``[B, L]``.
    """

    @check_arguments
    def __init__(
        self,
        mean: torch.Tensor,
        log_std: torch.Tensor,
        draw_decoder: Callable[[torch.Generator | None], Decoder],
        mean_decoder: Decoder,
    ) -> None:
        check_axes("[B, L]", 2, mean=mean)
        check_same_shape(mean=mean, log_std=log_std)
        self.mean = mean
        self.log_std = log_std
        self._draw_decoder = draw_decoder
        self._mean_decoder = mean_decoder

    @check_arguments
    def given_weights(self, generator: torch.Generator | None = None) -> LatentDistribution:
        """One draw of the weights, the same in all samples, which differ in their latents."""
        return LatentDistribution(self.mean, self.log_std, self._draw_decoder(generator))

    @check_arguments
    def given_latent(self, generator: torch.Generator | None = None) -> BayesianLatentDistribution:
        """One latent of each image, the same in all samples, which differ in their weights."""
        latent = draw_latent(self.mean, self.log_std, generator)
        certain = torch.full_like(latent, -torch.inf)
        return BayesianLatentDistribution(latent, certain, self._draw_decoder, self._mean_decoder)

    @check_arguments
    @torch.no_grad()
    def sample_logits(self, n: int, generator: torch.Generator | None = None) -> torch.Tensor:
        """Draw ``n`` logit maps without gradients, ``[B, n, C, *S]``; the chunks of a draw equal the whole draw."""
        check_at_least(1, n=n)
        return torch.cat([self.given_weights(generator).sample_logits(1, generator) for _ in range(n)], dim=1)

    @torch.no_grad()
    def mode_logits(self) -> torch.Tensor:
        """The logits of the prior's mean and the weights' means, without gradients, ``[B, C, *S]``."""
        return self._mean_decoder(self.mean)
