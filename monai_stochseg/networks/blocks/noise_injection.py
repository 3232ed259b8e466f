# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import torch
from torch import nn

from monai_stochseg.distributions import full_precision
from monai_stochseg.distributions.arguments import check_arguments, check_at_least, check_axes


class NoiseInjection(nn.Module):
    """
    Noise z in a feature map u, as a residual and a scale of each channel: ``(u + W1 z) * (W2 z)``
    (Gao et al. 2023, https://arxiv.org/abs/2212.07328).

    ``W1 z`` and ``W2 z`` start with unit variance for standard normal z.

    Args:
        feature_channels: number of channels F of the features.
        latent_dim: length L of the noise.
        bias: give both linear maps a bias, at first 0 for the residual and 1 for the scale, so that features without
            noise stay unchanged, as in adaptive instance normalisation. Default: no bias, as in the paper.

    Raises:
        ValueError: for feature_channels or latent_dim below 1.
    """

    @check_arguments
    def __init__(self, feature_channels: int, latent_dim: int, bias: bool = False) -> None:
        super().__init__()
        check_at_least(1, feature_channels=feature_channels, latent_dim=latent_dim)
        self.feature_channels = feature_channels
        self.latent_dim = latent_dim
        self.residual = nn.Linear(latent_dim, feature_channels, bias=bias)
        self.scale = nn.Linear(latent_dim, feature_channels, bias=bias)
        for linear, start in ((self.residual, 0.0), (self.scale, 1.0)):
            nn.init.normal_(linear.weight, std=latent_dim**-0.5)
            if bias:
                nn.init.constant_(linear.bias, start)

    @check_arguments
    def forward(self, features: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """
        Args:
            features: u, ``[B, F, *S]``, shared by the samples of an item. Features of which each sample has its own,
                ``[B * N, F, *S]``, take noise ``[B * N, 1, L]``.
            noise: z, ``[B, N, L]``.

        Returns:
            ``[B * N, F, *S]``, the samples of an item one after the other, in float32 under autocast too.

        Raises:
            ValueError: when features or noise do not fit the block or each other.
        """
        check_axes("[B, F, *S]", 3, features=features)
        if features.shape[1] != self.feature_channels:
            raise ValueError(f"features must have {self.feature_channels} channels, got {features.shape[1]}.")
        if (
            noise.dim() != 3
            or not noise.numel()
            or noise.shape[0] != features.shape[0]
            or noise.shape[2] != self.latent_dim
        ):
            raise ValueError(
                f"noise must be [B, N, L] = [{features.shape[0]}, N, {self.latent_dim}], got {tuple(noise.shape)} for "
                f"features of {tuple(features.shape)}."
            )
        with torch.autocast(noise.device.type, enabled=False):  # bfloat16 would draw the same few samples again
            noise = full_precision(noise)
            residual, scale = (
                linear(noise)[(..., *[None] * (features.dim() - 2))] for linear in (self.residual, self.scale)
            )
            # (u + r) s as r s + u s: no u + r of every sample is kept for the backward pass
            return torch.addcmul(residual * scale, full_precision(features).unsqueeze(1), scale).flatten(0, 1)
