# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.blocks import ADN, Convolution
from monai.networks.layers.factories import Conv
from torch import nn

from monai_stochseg.distributions import RefinementOutput, draw_latent, full_precision
from monai_stochseg.distributions.arguments import check_arguments, check_at_least
from monai_stochseg.distributions.images import check_image_axes
from monai_stochseg.networks.blocks import NoiseInjection
from monai_stochseg.networks.blocks.checks import check_min_size, check_options
from monai_stochseg.networks.blocks.latent_head import bounded_log_std
from monai_stochseg.networks.blocks.repeat import repeat_items

_ACT = ("LEAKYRELU", {"negative_slope": 0.2})


class RefinementNetwork(nn.Module):
    """
    The generator of Calibrated Adversarial Refinement (Kassapis et al. 2021, https://arxiv.org/abs/2006.13144): an
    image and its calibration output in, coherent label maps out, one for each code z drawn from N(0, I).

    A U-Net of strided 3x3 convolutions down and transposed convolutions up, each with batch norm, leaky ReLU and
    dropout. The code enters every block on the way up, the last of which is the output's, between its batch norm and
    its activation: by two linear layers as a residual and a scale of each channel, as in adaptive instance
    normalisation. The way down runs once per image, and the samples of all images share the batch axis on the way up.

    It gives logits, as all networks do here: their softmax is what the discriminator and the calibration loss take.

    Args:
        spatial_dims: 2 or 3.
        in_channels: number of channels of the image.
        out_channels: number of classes C, the background included, of the calibration output and of the samples.
        latent_dim: length L of the code. The paper has 8 on LIDC and 32 on Cityscapes.
        channels: number of channels of each level, from the first halving on.
        dropout: probability with which a feature is dropped.
        probabilistic_encoder: variant (cVAE-GAN) whose encoder gives mean and deviation of the code, which is then no
            longer standard normal. Log-deviations are bounded smoothly to [-5, 5].

    Raises:
        ValueError: for fewer than 2 classes, other spatial_dims, numbers that are not positive, or a dropout outside
            [0, 1).
    """

    @check_arguments
    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        latent_dim: int = 8,
        channels: Sequence[int] = (32, 64, 128, 256),
        dropout: float = 0.1,
        probabilistic_encoder: bool = False,
    ) -> None:
        super().__init__()
        check_options(spatial_dims, in_channels, out_channels, channels, dropout)
        check_at_least(1, latent_dim=latent_dim)
        self.out_channels = out_channels
        self.spatial_dims = spatial_dims
        self.latent_dim = latent_dim
        widths = [in_channels + out_channels, *channels]
        self.encoder = nn.ModuleList(
            Convolution(
                spatial_dims, before, after, strides=2, adn_ordering="NAD", act=_ACT, norm="BATCH", dropout=dropout
            )
            for before, after in zip(widths, channels, strict=False)
        )
        self.code = nn.Linear(channels[-1], 2 * latent_dim) if probabilistic_encoder else None
        deepest, *skips = reversed(channels)
        self.decoder = nn.ModuleList(
            _UpBlock(spatial_dims, before, after, latent_dim, dropout)
            for before, after in zip([deepest, *(2 * n for n in skips)], [*skips, channels[0]], strict=True)
        )
        self.final = Conv[Conv.CONV, spatial_dims](channels[0], out_channels, kernel_size=1)

    @check_arguments
    def forward(
        self,
        x: torch.Tensor,
        calibration: torch.Tensor,
        num_samples: int = 20,
        generator: torch.Generator | None = None,
    ) -> RefinementOutput:
        """
        A training step.

        Args:
            x: image ``[B, in_channels, *S]``.
            calibration: the calibration network's probabilities, ``[B, C, *S]``.
            num_samples: number of samples N of each image. The paper has 20 on LIDC and 7 on Cityscapes.
            generator: source of the codes; the default is PyTorch's global one.

        Raises:
            ValueError: for num_samples below 1, a calibration output that does not fit, or an image that is smaller
                than the levels allow.
        """
        check_at_least(1, num_samples=num_samples)
        features = self.encode(x, calibration)
        mean, log_std = self.latent(features)
        means, log_stds = (t.unsqueeze(1).expand(-1, num_samples, -1) for t in (mean, log_std))
        codes = draw_latent(means, log_stds, generator)
        return RefinementOutput(self.decode(features, codes), full_precision(calibration), mean, log_std)

    def encode(self, x: torch.Tensor, calibration: torch.Tensor) -> list[torch.Tensor]:
        """The image with its calibration output, then the features of each level, from the largest to the smallest."""
        check_image_axes(x, self.spatial_dims)
        x, calibration = full_precision(x), full_precision(calibration)
        expected = (x.shape[0], self.out_channels, *x.shape[2:])
        if calibration.shape != expected:
            raise ValueError(
                f"calibration must be [B, C, *S] = {expected} for x of shape {tuple(x.shape)}, with the refinement's "
                f"out_channels={self.out_channels} as its classes, got {tuple(calibration.shape)}."
            )
        check_min_size(x, len(self.encoder))
        features = [torch.cat([x, calibration], dim=1)]
        for level in self.encoder:
            features.append(level(features[-1]))
        return features

    def latent(self, features: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and log-deviation of the code, each ``[B, L]``, from the features of :py:meth:`encode`."""
        deepest = full_precision(features[-1])
        if self.code is None:
            zeros = deepest.new_zeros(deepest.shape[0], self.latent_dim)
            return zeros, zeros
        with torch.autocast(deepest.device.type, enabled=False):
            mean, raw = self.code(deepest.flatten(2).mean(2)).chunk(2, dim=1)
            return mean, bounded_log_std(raw)

    def decode(self, features: Sequence[torch.Tensor], codes: torch.Tensor) -> torch.Tensor:
        """The logits ``[B, N, C, *S]`` of codes ``[B, N, L]``, on the features of :py:meth:`encode`."""
        image, *skips, y = features
        batch, n = codes.shape[:2]
        noise = codes
        for block, skip in zip(self.decoder[:-1], reversed(skips), strict=True):
            y = block(y, noise, skip.shape[2:])
            y = torch.cat([repeat_items(skip, n), y], dim=1)
            noise = codes.reshape(batch * n, 1, -1)  # each sample has features of its own from here on
        logits = full_precision(self.final(self.decoder[-1](y, noise, image.shape[2:])))
        return logits.unflatten(0, (batch, n))


class _UpBlock(nn.Module):
    """Twice the size, cut to the size asked for, with a code: ``[B, F, *S]`` to ``[B * N, F', *S']``."""

    def __init__(self, spatial_dims: int, in_channels: int, out_channels: int, latent_dim: int, dropout: float) -> None:
        super().__init__()
        self.up = Convolution(
            spatial_dims,
            in_channels,
            out_channels,
            strides=2,
            kernel_size=2,
            padding=0,
            output_padding=0,
            is_transposed=True,
            adn_ordering="N",
            norm="BATCH",
        )
        self.injection = NoiseInjection(out_channels, latent_dim, bias=True)
        self.activation = ADN("AD", act=_ACT, dropout=dropout, dropout_dim=1)

    def forward(self, x: torch.Tensor, noise: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
        x = self.up(x)[(..., *(slice(n) for n in size))]
        result: torch.Tensor = self.activation(self.injection(x, noise))
        return result
