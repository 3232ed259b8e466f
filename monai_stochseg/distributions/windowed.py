# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from monai.inferers import Inferer

from monai_stochseg.distributions.arguments import check_arguments, check_at_least, check_axes
from monai_stochseg.distributions.base import PredictiveDistribution, autocast_mode, full_precision
from monai_stochseg.distributions.deck import Deck
from monai_stochseg.distributions.hypotheses import HypothesesDistribution, take_hypotheses
from monai_stochseg.distributions.noise import draw_seeds

__all__ = ["WindowedDistribution"]


class WindowedDistribution(PredictiveDistribution):
    """
    The predictive distribution of a whole image from those of its windows, with one noise per sample.

    Every sample of every image has a seed, which is drawn from the generator, and the same noise of that seed in each
    window: a network with a latent says one thing about the whole image. The windows' logits are stitched by the
    inferer, as they are for a single answer.

    Noise that lies on the image's grid (``noise_channels``) is one field for the whole image, of which a window gets
    its part.

    A limit: any other noise of each voxel or feature, such as the masks of dropout, repeats from window to window of
    equal size, so that places a window apart are correlated, and windows that overlap disagree.

    Hypotheses, such as the members of an ensemble, are drawn without replacement for the image too, see
    :py:class:`HypothesesDistribution`.

    The network runs when samples are drawn: once in each window for all samples that are asked for together, in the
    autocast mode in which the distribution was made.

    Args:
        image: ``[B, C_in, *S]``.
        predictive: maps a window ``[1, C_in, *W]`` to its predictive distribution. Samples of a window must weigh the
            same: a sample has no weight of its own in each window.
        inferer: calls a function on windows, one at a time, and stitches what it returns, for instance MONAI's
            ``SlidingWindowInferer``.
        noise_channels: number of channels of the noise that lies on the image's grid; the distributions of windows then
            have ``decode(noise)``, of standard normal noise ``[1, n, noise_channels, *W]``. Default: there is none.

    Raises:
        ValueError: when the inferer's ``sw_batch_size`` is not 1; at a draw, when windows come several at a time or
            their samples carry weights.
    """

    @check_arguments
    def __init__(
        self,
        image: torch.Tensor,
        predictive: Callable[[torch.Tensor], PredictiveDistribution],
        inferer: Inferer | Callable[..., torch.Tensor],
        noise_channels: int = 0,
    ) -> None:
        check_axes("[B, C_in, *S] with 2 or 3 spatial axes", 4, image=image)
        roi_size = getattr(inferer, "roi_size", None)
        if isinstance(roi_size, Sequence) and len(roi_size) != image.ndim - 2:
            raise ValueError(
                f"image must have the {len(roi_size)} spatial axes of the inferer's roi_size, got {tuple(image.shape)}."
            )
        _check_batch_size(getattr(inferer, "sw_batch_size", 1))
        self.image = full_precision(image)
        self.predictive = predictive
        self.inferer = inferer
        check_at_least(0, noise_channels=noise_channels)
        self.noise_channels = noise_channels
        self._autocast = autocast_mode(self.image.device)
        self._decks = [Deck() for _ in self.image]

    @torch.no_grad()
    def mode_logits(self) -> torch.Tensor:
        """The windows' modes stitched, without gradients, ``[B, C, *S]``."""
        return torch.cat([self._stitch(image, Deck()) for image in self.image.split(1)])

    @check_arguments
    @torch.no_grad()
    def sample_logits(self, n: int, generator: torch.Generator | None = None) -> torch.Tensor:
        """Draw ``n`` logit maps without gradients, ``[B, n, C, *S]``; the chunks of a draw equal the whole draw."""
        check_at_least(1, n=n)
        for deck in self._decks:
            deck.open(generator)
        seeds = [draw_seeds(len(self.image), generator) for _ in range(n)]  # sample by sample, for the chunks' sake
        images = zip(self.image.split(1), self._decks, zip(*seeds, strict=True), strict=True)
        samples = torch.cat([self._stitch(image, deck, own).unflatten(1, (n, -1)) for image, deck, own in images])
        for deck in self._decks:
            deck.close(generator)
        return samples

    @check_arguments
    def given_weights(self, generator: torch.Generator | None = None) -> WindowedDistribution:
        """The distribution given one draw of the network's weights, the same in all windows of all images."""
        (seed,) = draw_seeds(1, generator)

        def predictive(window: torch.Tensor) -> PredictiveDistribution:
            return self.predictive(window).given_weights(torch.Generator(window.device).manual_seed(seed))

        given = WindowedDistribution(self.image, predictive, self.inferer, self.noise_channels)
        given._autocast = self._autocast
        return given

    def _stitch(self, image: torch.Tensor, deck: Deck, seeds: Sequence[int] = ()) -> torch.Tensor:
        """One image's samples of the seeds, ``[1, n * C, *S]``; its mode without seeds."""
        hypotheses: list[torch.Tensor] = []  # of the samples, the same in all windows
        channels = image.shape[1]
        if self.noise_channels:
            shape = (1, self.noise_channels, *image.shape[2:])
            image = torch.cat([image, *(_field(seed, shape, image) for seed in seeds)], dim=1)

        def predict(window: torch.Tensor) -> torch.Tensor:
            _check_batch_size(len(window))
            window, noise = window[:, :channels], window[:, channels:]
            distribution = self.predictive(window)
            if distribution.weights is not None:
                raise ValueError(
                    "the samples of a window carry weights, which differ from window to window: infer the whole image "
                    "at once, without an inferer of windows."
                )
            if not seeds:
                return distribution.mode_logits()
            if isinstance(distribution, HypothesesDistribution) and distribution.deck is not None:
                if not hypotheses:
                    number = distribution.logits.shape[1]
                    hypotheses.append(deck.deal(len(seeds), lambda start: _permutation(number, seeds[start])))
                return take_hypotheses(distribution.logits, hypotheses[0]).flatten(1, 2)
            if self.noise_channels:
                decode: Callable[[torch.Tensor], torch.Tensor] = getattr(distribution, "decode")  # noqa: B009
                return decode(noise.unflatten(1, (len(seeds), -1))).flatten(1, 2)
            generators = [torch.Generator(window.device).manual_seed(seed) for seed in seeds]
            return torch.cat([distribution.sample_logits(1, generator) for generator in generators], 1).flatten(1, 2)

        with self._autocast:
            return full_precision(self.inferer(image, predict))


def _field(seed: int, shape: tuple[int, ...], like: torch.Tensor) -> torch.Tensor:
    generator = torch.Generator(like.device).manual_seed(seed)
    return torch.randn(shape, generator=generator, device=like.device, dtype=like.dtype)


def _permutation(n: int, seed: int) -> torch.Tensor:
    """``[1, n]``."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed))[None]


def _check_batch_size(size: int) -> None:
    if size != 1:
        raise ValueError(
            f"the inferer takes {size} windows at a time, but a sample's noise must be the same in every window: set "
            "its sw_batch_size to 1."
        )
