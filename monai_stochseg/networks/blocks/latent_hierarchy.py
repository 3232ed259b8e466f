# SPDX-License-Identifier: Apache-2.0
"""What networks with a hierarchy of latents have in common: a training step, a reconstruction, a distribution."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from monai_stochseg.distributions import (
    AncestralDistribution,
    Gaussian,
    LatentLevel,
    LatentOutput,
    autocast_mode,
    draw_latent,
    full_precision,
)
from monai_stochseg.distributions.ancestral import Choose
from monai_stochseg.distributions.arguments import check_arguments
from monai_stochseg.distributions.images import check_image_axes
from monai_stochseg.networks.blocks.rater_label import check_one_label, draw_label, label_channels

__all__ = ["LatentHierarchy", "Walk"]


class Walk(NamedTuple):
    """The way through a hierarchy: the normal and the latent of each level, and what was decoded meanwhile."""

    normals: list[Gaussian]
    latents: list[torch.Tensor]
    decoded: Any = None


class LatentHierarchy(nn.Module, ABC):
    """
    A network with a prior and a posterior hierarchy of latents, of which each level depends on the levels before it.

    A subclass sets ``prior_net`` and ``posterior_net``, whose ``encoder`` gives the features of an image once for all
    draws, and whose call with these features and a function ``choose(level, normal)`` is a :py:class:`Walk`.
    """

    prior_net: Any
    posterior_net: Any

    def __init__(self, spatial_dims: int, out_channels: int) -> None:
        super().__init__()
        self.spatial_dims = spatial_dims
        self.out_channels = out_channels

    @abstractmethod
    def decode(self, features: Sequence[torch.Tensor], walk: Walk) -> list[torch.Tensor]:
        """Logits ``[B, C, *S]`` of the prior's features and a walk through it, those of all levels last."""

    @check_arguments
    def forward(
        self,
        x: torch.Tensor,
        y: torch.Tensor | None = None,
        rater_weights: torch.Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> LatentOutput:
        """
        A training step: of several raters one is drawn per item, and the latents from the posteriors of its label.

        Args:
            x: image ``[B, in_channels, *S]``.
            y: integer labels of the raters, ``[B, raters, *S]``. In the posterior a void voxel has no class.
            rater_weights: ``[B, raters]``, non-negative, each row with a positive sum; a missing rater has weight 0.
            generator: source of the drawn raters and of the noise; the default is PyTorch's global one.

        Raises:
            ValueError: without a label, or when shapes do not fit.
        """
        check_image_axes(x, self.spatial_dims)
        label, rater = draw_label(x, y, rater_weights, generator)
        posterior = self._posterior(x, label, lambda _, normal: draw_latent(*normal, generator))
        prior, logits = self._follow(x, posterior.latents)
        levels = tuple(LatentLevel(*normals) for normals in zip(posterior.normals, prior.normals, strict=True))
        return LatentOutput(logits[-1], levels, rater, tuple(logits[:-1]))

    @check_arguments
    def reconstruct(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """
        The logits ``[B, C, *S]`` of the posteriors' means, given one rater's label ``[B, 1, *S]``.

        Raises:
            ValueError: when the label's shape does not fit.
        """
        check_image_axes(x, self.spatial_dims)
        posterior = self._posterior(x, check_one_label(x, y), lambda _, normal: normal.mean)
        return self._follow(x, posterior.latents)[1][-1]

    def predictive(self, x: torch.Tensor) -> AncestralDistribution:
        """The predictive distribution of an image ``[B, in_channels, *S]``: its encoder runs once for all samples."""
        check_image_axes(x, self.spatial_dims)
        features = self.prior_net.encoder(full_precision(x))
        autocast = autocast_mode(x.device)

        def decode(choose: Choose) -> torch.Tensor:
            with autocast:
                return self.decode(features, self.prior_net(features, choose))[-1]

        return AncestralDistribution(decode)

    def _posterior(self, x: torch.Tensor, y: torch.Tensor, choose: Choose) -> Walk:
        x = full_precision(x)
        joined = torch.cat([x, label_channels(y, self.out_channels, x) - 0.5], dim=1)
        walk: Walk = self.posterior_net(self.posterior_net.encoder(joined), choose)
        return walk

    def _follow(self, x: torch.Tensor, latents: Sequence[torch.Tensor]) -> tuple[Walk, list[torch.Tensor]]:
        """The prior's walk by given latents, and its logits."""
        features = self.prior_net.encoder(full_precision(x))
        walk = self.prior_net(features, lambda level, _: latents[level])
        return walk, self.decode(features, walk)
