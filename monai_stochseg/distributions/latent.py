# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable

import torch

from monai_stochseg.distributions.arguments import check_arguments, check_at_least, check_axes, check_same_shape
from monai_stochseg.distributions.base import PredictiveDistribution
from monai_stochseg.distributions.noise import draw_latent

__all__ = ["LatentDistribution", "decode_latents"]


class LatentDistribution(PredictiveDistribution):
    """
    Label maps decoded from a latent vector with an axis-aligned normal prior.

    Args:
        mean: the prior's mean, ``[B, L]``.
        log_std: log of the prior's standard deviations, ``[B, L]``.
        decoder: maps one latent per image ``[B, L]`` to logits ``[B, C, *S]``.

    Raises:
        ValueError: when mean and log_std are not of one shape ``[B, L]``.
    """

    @check_arguments
    def __init__(
        self, mean: torch.Tensor, log_std: torch.Tensor, decoder: Callable[[torch.Tensor], torch.Tensor]
    ) -> None:
        check_axes("[B, L]", 2, mean=mean)
        check_same_shape(mean=mean, log_std=log_std)
        self.mean = mean
        self.log_std = log_std
        self._decoder = decoder

    @check_arguments
    def sample_latents(self, n: int, generator: torch.Generator | None = None) -> torch.Tensor:
        """Draw ``n`` latents from the prior, ``[B, n, L]``; the chunks of a draw equal the whole draw."""
        check_at_least(1, n=n)
        return torch.stack([draw_latent(self.mean, self.log_std, generator) for _ in range(n)], dim=1)

    @check_arguments
    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """
        The logits of given latents, with gradients.

        Args:
            latents: ``[B, n, L]``.

        Returns:
            logits ``[B, n, C, *S]``.

        Raises:
            ValueError: when the latents do not fit the prior.
        """
        return decode_latents(self._decoder, latents, *self.mean.shape)

    @check_arguments
    @torch.no_grad()
    def sample_logits(self, n: int, generator: torch.Generator | None = None) -> torch.Tensor:
        """Draw ``n`` logit maps without gradients, ``[B, n, C, *S]``; the chunks of a draw equal the whole draw."""
        return self.decode(self.sample_latents(n, generator))

    @torch.no_grad()
    def mode_logits(self) -> torch.Tensor:
        """The logits of the prior's mean, without gradients, ``[B, C, *S]``."""
        return self._decoder(self.mean)


def decode_latents(
    decoder: Callable[[torch.Tensor], torch.Tensor], latents: torch.Tensor, batch: int, latent_dim: int
) -> torch.Tensor:
    """
    The logits ``[B, n, C, *S]`` of latents ``[B, n, L]``, one latent per image at a time; ValueError for others.

    On a CPU a batch of 16 latents took 3 to 10 times as long: their features leave the cache.
    """
    if latents.dim() != 3 or not latents.numel() or latents.shape[0] != batch or latents.shape[2] != latent_dim:
        raise ValueError(f"latents must be [B, n, L] = [{batch}, n, {latent_dim}], got {tuple(latents.shape)}.")
    return torch.stack([decoder(z.contiguous()) for z in latents.unbind(1)], dim=1)
