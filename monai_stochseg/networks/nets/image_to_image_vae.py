# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence

from monai_stochseg.networks.nets.probabilistic_unet import ProbabilisticUNet


class Image2ImageVAE(ProbabilisticUNet):
    """
    Image2Image VAE, a baseline of the Probabilistic U-Net's paper (Kohl et al. 2018, https://arxiv.org/abs/1806.05034)
    after the U-Net and VAE hybrid of Zhu et al. 2017 (https://arxiv.org/abs/1711.11586).

    A :py:class:`ProbabilisticUNet` whose prior is standard normal for every image, whose posterior sees the label
    alone, and whose latent joins the image at the U-Net's input: every sample runs the whole U-Net.

    Args:
        spatial_dims: 2 or 3.
        in_channels: number of channels of the image.
        out_channels: number of classes C, the background included.
        channels: number of channels of each level, of the U-Net and of the posterior network.
        latent_dim: length L of the latent.
        norm: normalisation, by MONAI's name and options. Default: none.

    Raises:
        ValueError: for fewer than 2 classes, latent_dim below 1, other spatial_dims, or numbers of channels that are
            not positive.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        channels: Sequence[int] = (32, 64, 128, 192),
        latent_dim: int = 6,
        norm: str | tuple | None = None,
    ) -> None:
        super().__init__(
            spatial_dims,
            in_channels,
            out_channels,
            channels,
            latent_dim,
            fixed_prior=True,
            posterior_image=False,
            latent_at_input=True,
            norm=norm,
        )
