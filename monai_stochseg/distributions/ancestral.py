# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable

import torch

from monai_stochseg.distributions.arguments import check_arguments, check_at_least
from monai_stochseg.distributions.base import PredictiveDistribution
from monai_stochseg.distributions.noise import draw_latent
from monai_stochseg.distributions.outputs import Gaussian

__all__ = ["AncestralDistribution", "Choose"]

Choose = Callable[[int, Gaussian], torch.Tensor]


class AncestralDistribution(PredictiveDistribution):
    """
    Label maps decoded from a hierarchy of latents, of which each has a normal that depends on the latents before it.

    Args:
        decoder: maps a function ``choose`` to logits ``[B, C, *S]``. It calls ``choose(level, normal)`` once for each
            level, from the first to the last, and takes what that returns as the level's latent.
    """

    @check_arguments
    def __init__(self, decoder: Callable[[Choose], torch.Tensor]) -> None:
        self._decoder = decoder

    @check_arguments
    @torch.no_grad()
    def sample_logits(self, n: int, generator: torch.Generator | None = None) -> torch.Tensor:
        """Draw ``n`` logit maps without gradients, ``[B, n, C, *S]``; the chunks of a draw equal the whole draw."""
        check_at_least(1, n=n)
        samples = [self._decoder(lambda level, normal: draw_latent(*normal, generator)) for _ in range(n)]
        return torch.stack(samples, dim=1)

    @torch.no_grad()
    def mode_logits(self) -> torch.Tensor:
        """The logits of the mean of each level, given the means before it, without gradients, ``[B, C, *S]``."""
        return self._decoder(lambda level, normal: normal.mean)
