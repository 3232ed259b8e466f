# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable

import torch
from monai.data import MetaTensor
from monai.transforms import Compose

from monai_stochseg.distributions.arguments import check_arguments
from monai_stochseg.distributions.base import PredictiveDistribution, autocast_mode, full_precision, plain
from monai_stochseg.distributions.images import check_image_axes
from monai_stochseg.distributions.noise import draw_seeds

__all__ = ["AugmentedDistribution"]

_NUMPY_SEEDS = 2**32  # MONAI's random transforms take seeds below it
_ITEM_STEP = 0x9E3779B1  # from the seed of one item to that of the next


class AugmentedDistribution(PredictiveDistribution):
    """
    Label maps of a network on changed images, changed back: a sample is an answer to one random change.

    Each sample of each image has a seed, of which the transform's random numbers are a function. The network runs when
    samples are drawn, once for each sample of each image, in the autocast mode in which the distribution was made.

    Args:
        answer: maps an image ``[1, C_in, *S']`` and a generator to logits ``[1, C, *S']``.
        x: image ``[B, C_in, *S]``.
        transform: MONAI's array transforms of one image ``[C_in, *S]``, random ones among them. Those that MONAI can
            invert are inverted on the logits, in which voxels that have left the image are lost; others, such as
            changes of intensity, are left.

    Raises:
        ValueError: when ``x`` is no image; at a draw, when logits have another size than the image after the inverse.
    """

    @check_arguments
    def __init__(
        self,
        answer: Callable[[torch.Tensor, torch.Generator | None], torch.Tensor],
        x: torch.Tensor,
        transform: Compose,
    ) -> None:
        check_image_axes(x, 0)
        self._answer = answer
        self._x = full_precision(x)
        self._transform = transform
        self._autocast = autocast_mode(x.device)

    @check_arguments
    @torch.no_grad()
    def sample_logits(self, n: int, generator: torch.Generator | None = None) -> torch.Tensor:
        """Draw ``n`` logit maps without gradients, ``[B, n, C, *S]``; the chunks of a draw equal the whole draw."""
        samples = [
            torch.stack([self._sample(image, seed + i * _ITEM_STEP) for i, image in enumerate(self._x)])
            for seed in draw_seeds(n, generator)
        ]
        return torch.stack(samples, dim=1)

    @torch.no_grad()
    def mode_logits(self) -> torch.Tensor:
        """The logits of the image as it is, without gradients, ``[B, C, *S]``."""
        with self._autocast:
            return torch.cat([full_precision(self._answer(image[None], None)) for image in self._x])

    def _sample(self, image: torch.Tensor, seed: int) -> torch.Tensor:
        """``[C, *S]``."""
        self._transform.set_random_state(seed % _NUMPY_SEEDS)
        changed = self._transform(MetaTensor(image.clone()))
        generator = torch.Generator(image.device).manual_seed(seed % 2**63)
        with self._autocast:
            logits = full_precision(self._answer(plain(changed)[None], generator))[0]
        restored = logits
        if changed.applied_operations:
            traced = MetaTensor(logits, applied_operations=changed.applied_operations)
            restored = plain(self._transform.inverse(traced))
        if restored.shape[1:] != image.shape[1:]:
            raise ValueError(
                f"transform: the logits of an image of {tuple(image.shape[1:])} are {tuple(restored.shape[1:])} after "
                "the inverse: take transforms that MONAI can invert, and a network that keeps the image's size."
            )
        return restored
