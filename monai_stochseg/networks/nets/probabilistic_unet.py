# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from monai.networks.layers.factories import Conv
from torch import nn

from monai_stochseg.distributions import (
    Gaussian,
    LatentDistribution,
    LatentLevel,
    LatentOutput,
    autocast_mode,
    draw_latent,
    full_precision,
)
from monai_stochseg.distributions.arguments import check_arguments, check_at_least, check_num_classes
from monai_stochseg.distributions.images import check_features, check_image_axes
from monai_stochseg.networks.blocks.latent_head import bounded_log_std
from monai_stochseg.networks.blocks.rater_label import check_one_label, draw_label, label_channels
from monai_stochseg.networks.blocks.repeat import repeat_items
from monai_stochseg.networks.nets.bilinear_unet import BilinearEncoder, BilinearUNet, init_orthogonal


class ProbabilisticUNet(nn.Module):
    """
    Probabilistic U-Net (Kohl et al. 2018, https://arxiv.org/abs/1806.05034): a U-Net whose last features are joined
    with a sample of a low-dimensional latent and read by three 1x1 convolutions. The default is the paper's network on
    LIDC, of 27.5 million parameters.

    The latent's prior is predicted from the image; in training it is drawn from a posterior that sees a rater's label
    too, as one-hot minus 0.5. Both are axis-aligned normals, with log-deviations bounded smoothly to [-5, 5].
    A further sample costs the 1x1 convolutions alone, without the features' part of the first of them.

    Args:
        spatial_dims: 2 or 3.
        in_channels: number of channels of the image.
        out_channels: number of classes C, the background included.
        channels: number of channels of each level, of the default core and of the prior and posterior networks.
        latent_dim: length L of the latent.
        core: any module that maps images ``[B, in_channels, *S]`` to features ``[B, feature_channels, *S]``. Default:
            :py:class:`BilinearUNet`, the paper's.
        feature_channels: number of channels of the features of a ``core`` that is given.
        fixed_prior: ablation, a standard normal prior for every image.
        posterior_image: False is the ablation whose posterior sees the label alone.
        latent_at_input: ablation, the latent joins the image and not the last features; every sample then runs the
            core, which takes ``in_channels + latent_dim`` channels.
        norm: normalisation in the default core and in the prior and posterior networks, by MONAI's name and options.
            Default: none, as in the paper.
        align_corners: of the default core, see :py:class:`BilinearUNet`.

    Raises:
        ValueError: for fewer than 2 classes, latent_dim below 1, other spatial_dims, numbers of channels that are not
            positive, or a core without feature_channels or the other way round.

    Example::

        net = ProbabilisticUNet(spatial_dims=2, in_channels=1, out_channels=2)
        loss = ELBOLoss()(net(image, label), label)  # label [B, raters, *S]
        samples = net.predictive(image).sample_logits(16).argmax(2)  # [B, 16, *S]
    """

    @check_arguments
    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        channels: Sequence[int] = (32, 64, 128, 256, 512),
        latent_dim: int = 6,
        core: nn.Module | None = None,
        feature_channels: int | None = None,
        fixed_prior: bool = False,
        posterior_image: bool = True,
        latent_at_input: bool = False,
        norm: str | tuple | None = None,
        align_corners: bool = False,
    ) -> None:
        super().__init__()
        check_num_classes(out_channels=out_channels)
        check_at_least(1, latent_dim=latent_dim, feature_channels=1 if feature_channels is None else feature_channels)
        check_at_least(1, in_channels=in_channels)
        if (core is None) != (feature_channels is None):
            raise ValueError(
                "core and feature_channels, the number of channels of its output, belong together: "
                f"got core={type(core).__name__} and feature_channels={feature_channels}."
            )
        self.spatial_dims = spatial_dims
        self.out_channels = out_channels
        self.latent_dim = latent_dim
        self.posterior_image = posterior_image
        self.latent_at_input = latent_at_input
        core_channels = in_channels + latent_dim if latent_at_input else in_channels
        if core is None:
            core = BilinearUNet(spatial_dims, core_channels, None, channels, norm, align_corners=align_corners)
        self.core = core
        self.feature_channels = channels[0] if feature_channels is None else feature_channels
        self.prior_net = None if fixed_prior else _LatentNet(spatial_dims, in_channels, channels, latent_dim, norm)
        posterior_channels = out_channels + (in_channels if posterior_image else 0)
        self.posterior_net = _LatentNet(spatial_dims, posterior_channels, channels, latent_dim, norm)
        self.combination = _Combination(
            spatial_dims, self.feature_channels, None if latent_at_input else latent_dim, out_channels
        )

    @check_arguments
    def forward(
        self,
        x: torch.Tensor,
        y: torch.Tensor | None = None,
        rater_weights: torch.Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> LatentOutput:
        """
        A training step: of several raters one is drawn per item, as in the paper, and a latent from its posterior.

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
        logits = self.decoder(x)(draw_latent(*posterior, generator))
        return LatentOutput(logits, (LatentLevel(posterior, prior),), rater)

    def prior(self, x: torch.Tensor) -> Gaussian:
        """Mean and log-deviation of the latent of an image, each ``[B, L]``."""
        check_image_axes(x, self.spatial_dims)
        x = full_precision(x)
        if self.prior_net is None:
            zeros = x.new_zeros(x.shape[0], self.latent_dim)
            return Gaussian(zeros, zeros)
        return Gaussian(*self.prior_net(x))

    @check_arguments
    def posterior(self, x: torch.Tensor, y: torch.Tensor | None) -> Gaussian:
        """
        Mean and log-deviation of the latent of an image and one rater's label ``[B, 1, *S]``, each ``[B, L]``.

        Raises:
            ValueError: without a label, or when its shape does not fit.
        """
        check_image_axes(x, self.spatial_dims)
        y = check_one_label(x, y)
        x = full_precision(x)
        one_hot = label_channels(y, self.out_channels, x) - 0.5
        return Gaussian(*self.posterior_net(torch.cat([x, one_hot], dim=1) if self.posterior_image else one_hot))

    def decoder(self, x: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
        """
        The map of one latent per image ``[B, L]`` to logits ``[B, C, *S]``, after the core has run once; with the
        latent at the input it runs for each latent, in the autocast mode of this call.
        """
        x = full_precision(x)
        if self.latent_at_input:
            autocast = autocast_mode(x.device)

            def decode(z: torch.Tensor) -> torch.Tensor:
                with autocast:
                    features = self._features(_join(x, z))
                logits: torch.Tensor = self.combination(self.combination.first(features), None)
                return logits

            return decode
        first = self.combination.first(self._features(x))
        return lambda z: self.combination(first, z)

    def decode(self, x: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
        """
        The logits of several latents of each image at once.

        Args:
            x: image ``[B, in_channels, *S]``.
            latents: ``[B, N, L]``.

        Returns:
            ``[B, N, C, *S]``.
        """
        n = latents.shape[1]
        flat = latents.flatten(0, 1)
        if self.latent_at_input:
            first = self.combination.first(self._features(_join(repeat_items(x, n), flat)))
        else:
            first = repeat_items(self.combination.first(self._features(x)), n)
        logits: torch.Tensor = self.combination(first, flat)
        return logits.unflatten(0, (-1, n))

    def predictive(self, x: torch.Tensor) -> LatentDistribution:
        """The predictive distribution of an image ``[B, in_channels, *S]``, its latent drawn from the prior."""
        return LatentDistribution(*self.prior(x), self.decoder(x))

    def _features(self, x: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.core(x)
        check_features(features, x, self.feature_channels, "core")
        return features


class _LatentNet(nn.Module):
    """Image ``[B, C, *S]`` to mean and log-deviation ``[B, L]``: an encoder, its average over space, a linear map."""

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        channels: Sequence[int],
        latent_dim: int,
        norm: str | tuple | None,
    ) -> None:
        super().__init__()
        self.encoder = BilinearEncoder(spatial_dims, in_channels, channels, norm)
        self.head = nn.Linear(channels[-1], 2 * latent_dim)
        self.head.apply(init_orthogonal)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features = self.encoder(x)[-1]
        with torch.autocast(features.device.type, enabled=False):
            mean, raw = self.head(full_precision(features).flatten(2).mean(2)).chunk(2, dim=1)
            return mean, bounded_log_std(raw)


class _Combination(nn.Module):
    """
    Three 1x1 convolutions on the features joined with the latent, in float32 under autocast too. The first is linear in
    both: :py:meth:`first` is its part that all samples of an image share.
    """

    def __init__(self, spatial_dims: int, in_channels: int, latent_dim: int | None, out_channels: int) -> None:
        super().__init__()
        conv = Conv[Conv.CONV, spatial_dims]
        self.features = conv(in_channels, in_channels, kernel_size=1)
        self.latent = None if latent_dim is None else nn.Linear(latent_dim, in_channels, bias=False)
        self.rest = nn.Sequential(
            nn.ReLU(),
            conv(in_channels, in_channels, kernel_size=1),
            nn.ReLU(),
            conv(in_channels, out_channels, kernel_size=1),
        )
        self.apply(init_orthogonal)

    def first(self, features: torch.Tensor) -> torch.Tensor:
        with torch.autocast(features.device.type, enabled=False):
            result: torch.Tensor = self.features(full_precision(features))
            return result

    def forward(self, first: torch.Tensor, latent: torch.Tensor | None) -> torch.Tensor:
        with torch.autocast(first.device.type, enabled=False):
            if self.latent is not None:
                shift = self.latent(latent)
                first = first + shift.reshape(*shift.shape, *[1] * (first.dim() - 2))
            result: torch.Tensor = self.rest(first)
            return result


def _join(x: torch.Tensor, latent: torch.Tensor) -> torch.Tensor:
    """The image with the latent as further channels, each constant."""
    tiled = latent.reshape(*latent.shape, *[1] * (x.dim() - 2)).expand(-1, -1, *x.shape[2:])
    return torch.cat([x, tiled], dim=1)
