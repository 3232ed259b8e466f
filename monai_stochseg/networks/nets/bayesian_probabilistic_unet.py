# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.nn import functional as F

from monai_stochseg.distributions import (
    BayesianLatentDistribution,
    BayesianOutput,
    LatentLevel,
    LatentOutput,
    draw_latent,
    full_precision,
)
from monai_stochseg.distributions.arguments import check_arguments, check_at_least
from monai_stochseg.distributions.images import check_image_axes
from monai_stochseg.networks.blocks.rater_label import draw_label
from monai_stochseg.networks.blocks.repeat import repeat_items
from monai_stochseg.networks.blocks.variational_conv import VariationalConv
from monai_stochseg.networks.nets.bilinear_unet import init_orthogonal
from monai_stochseg.networks.nets.probabilistic_unet import ProbabilisticUNet


class BayesianProbabilisticUNet(ProbabilisticUNet):
    """
    Probabilistic U-Net with a last layer of random weights (Hu et al. 2019, https://arxiv.org/abs/1907.01949): the
    core's features pass a 3x3 convolution with variational dropout, :py:class:`~.VariationalConv`, before they are
    joined with the latent. What samples differ in by the latent is aleatoric uncertainty, as readers differ; what they
    differ in by the weights is epistemic, and more training data would lessen it.

    A training step decodes a latent of the posterior with noisy weights, for the bound, and ``num_samples`` latents of
    the prior with the weights' means, whose uncertainty
    :py:class:`monai_stochseg.losses.SupervisedUncertaintyLoss` compares with that of the readers. A sample draws
    weights and a latent; the core runs once an image. ``predictive(image).given_weights()`` has one draw of the weights
    for all its samples, ``given_latent()`` one latent.

    In the authors' code (https://github.com/shihux/supervised_uq) the last convolution of the U-Net is the one with
    random weights. Here one is added behind the core, which may be any network.

    Args:
        spatial_dims: 2 or 3.
        in_channels: number of channels of the image.
        out_channels: number of classes C, the background included.
        channels: see :py:class:`ProbabilisticUNet`.
        latent_dim: length L of the latent.
        num_samples: latents of the prior in a training step; the authors draw one for each reader.
        log_std: log of the weights' deviations at the start.
        core: see :py:class:`ProbabilisticUNet`.
        feature_channels: number of channels of the features of a ``core`` that is given.
        norm: see :py:class:`ProbabilisticUNet`.
        align_corners: see :py:class:`ProbabilisticUNet`.

    Raises:
        ValueError: as :py:class:`ProbabilisticUNet`, and for num_samples below 1, or a log_std outside (-10, 1).

    Example::

        net = BayesianProbabilisticUNet(spatial_dims=2, in_channels=1, out_channels=2)
        loss = SupervisedUncertaintyLoss(num_images=1000)(net(image, label), label)  # label [B, raters, *S]
        predictive = net.predictive(image)
        samples = predictive.sample_logits(16).argmax(2)  # [B, 16, *S], weights and latents
        readers = predictive.given_weights().sample_logits(16).argmax(2)  # the same weights
    """

    @check_arguments
    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        channels: Sequence[int] = (32, 64, 128, 192),
        latent_dim: int = 6,
        num_samples: int = 4,
        log_std: float = -5.0,
        core: nn.Module | None = None,
        feature_channels: int | None = None,
        norm: str | tuple | None = None,
        align_corners: bool = False,
    ) -> None:
        super().__init__(
            spatial_dims,
            in_channels,
            out_channels,
            channels,
            latent_dim,
            core,
            feature_channels,
            norm=norm,
            align_corners=align_corners,
        )
        check_at_least(1, num_samples=num_samples)
        self.num_samples = num_samples
        self.variational = VariationalConv(spatial_dims, self.feature_channels, self.feature_channels, 3, log_std)
        self.variational.apply(init_orthogonal)

    @check_arguments
    def forward(  # type: ignore[override]  # with a latent, and more
        self,
        x: torch.Tensor,
        y: torch.Tensor | None = None,
        rater_weights: torch.Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> BayesianOutput:
        """
        A training step: one rater is drawn per item for the posterior; the loss compares the prior's samples with all.

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
        posterior, prior = self.posterior(x, label), self.prior(x)
        features = super()._features(full_precision(x))
        noisy, certain = self.variational(features, generator), self.variational.given(features)
        logits = self._decoder(noisy)(draw_latent(*posterior, generator))
        latents = torch.stack([draw_latent(*prior, generator) for _ in range(self.num_samples)], dim=1)
        first = repeat_items(self.combination.first(F.relu(certain)), self.num_samples)
        samples = self.combination(first, latents.flatten(0, 1)).unflatten(0, (-1, self.num_samples))
        latent = LatentOutput(logits, (LatentLevel(posterior, prior),), rater)
        return BayesianOutput(latent, samples, (self.variational.weight,))

    def predictive(self, x: torch.Tensor) -> BayesianLatentDistribution:  # type: ignore[override]  # of weights too
        """The predictive distribution of an image ``[B, in_channels, *S]``; a sample draws weights and a latent."""
        check_image_axes(x, self.spatial_dims)
        features = super()._features(full_precision(x))

        def drawn(generator: torch.Generator | None) -> Callable[[torch.Tensor], torch.Tensor]:
            return self._decoder(self.variational.given(features, self.variational.draw(generator)))

        def mean(z: torch.Tensor) -> torch.Tensor:
            return self._decoder(self.variational.given(features))(z)

        return BayesianLatentDistribution(*self.prior(x), drawn, mean)

    def _features(self, x: torch.Tensor) -> torch.Tensor:
        """By the weights' means."""
        return F.relu(self.variational.given(super()._features(x)))

    def _decoder(self, features: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
        """The map of latents to logits, of features behind the random convolution."""
        first = self.combination.first(F.relu(features))
        return lambda z: self.combination(first, z)
