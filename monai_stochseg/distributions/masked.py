# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import torch

from monai_stochseg.distributions.arguments import check_arguments
from monai_stochseg.distributions.base import IMPOSSIBLE_LOGIT, PredictiveDistribution, plain
from monai_stochseg.distributions.label_maps import LabelMaps


class MaskedDistribution(PredictiveDistribution):
    """
    Any predictive distribution within a region: outside it every sample, and the mode, is background (class 0).

    Args:
        distribution: distribution over logits ``[B, C, *S]``; the weights of its samples are kept.
        mask: region ``[B, 1, *S]``, non-zero inside.

    Raises:
        ValueError: when the mask does not fit the logits, at the first draw.
    """

    @check_arguments
    def __init__(self, distribution: PredictiveDistribution, mask: torch.Tensor) -> None:
        self.distribution = distribution
        self.mask = mask
        self.weights = distribution.weights

    def mode_logits(self) -> torch.Tensor:
        """The mode of the distribution given, background outside the region, ``[B, C, *S]``."""
        logits = self.distribution.mode_logits()
        return background_outside(logits, check_mask(self.mask, logits))

    @check_arguments
    @torch.no_grad()
    def sample_logits(self, n: int, generator: torch.Generator | None = None) -> torch.Tensor:
        """The samples of the distribution given, background outside the region, ``[B, n, C, *S]``."""
        logits = self.distribution.sample_logits(n, generator)
        mask = check_mask(self.mask, logits[:, 0])
        return torch.stack([background_outside(sample, mask) for sample in logits.unbind(1)], dim=1)

    @check_arguments
    def given_weights(self, generator: torch.Generator | None = None) -> MaskedDistribution:
        """That of the distribution given, background outside the region."""
        return MaskedDistribution(self.distribution.given_weights(generator), self.mask)

    @check_arguments
    @torch.no_grad()
    def label_maps(
        self, n: int, generator: torch.Generator | None = None, chunk_size: int = 1, with_entropy: bool = False
    ) -> LabelMaps:
        """The label maps and probabilities of the distribution given, background outside the region."""
        labels, probabilities, entropy = self.distribution.label_maps(n, generator, chunk_size, with_entropy)
        mask = check_mask(self.mask, probabilities)
        background = torch.zeros_like(probabilities[:1])
        background[:, 0] = 1
        probabilities = torch.where(mask, probabilities, background)
        return LabelMaps(labels * mask, probabilities, None if entropy is None else entropy * mask)


def check_mask(mask: torch.Tensor, logits: torch.Tensor, name: str = "logits") -> torch.Tensor:
    """The region ``[B, 1, *S]`` of logits ``[B, C, *S]`` as booleans on their device; ValueError for other shapes."""
    if mask.shape != logits[:, :1].shape:
        raise ValueError(
            f"mask must be [B, 1, *S] as {tuple(logits[:, :1].shape)}, got {tuple(mask.shape)} for {name} of "
            f"{tuple(logits.shape)}."
        )
    return plain(mask).to(logits.device) > 0


def background_outside(logits: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """``logits`` ``[B, C, *S]`` inside the region, those of a certain class 0 outside."""
    outside = logits.new_full((1, logits.shape[1], *[1] * (logits.dim() - 2)), IMPOSSIBLE_LOGIT)
    outside[:, 0] = 0
    return torch.where(mask, logits, outside)
