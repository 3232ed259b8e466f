# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from monai_stochseg.distributions.arguments import check_arguments
from monai_stochseg.networks.nets.probabilistic_unet import ProbabilisticUNet


class Image2ImageVAE(ProbabilisticUNet):
    """
    Image2Image VAE, a baseline of the Probabilistic U-Net's paper (Kohl et al. 2018, https://arxiv.org/abs/1806.05034)
    after the U-Net and VAE hybrid of Zhu et al. 2017 (https://arxiv.org/abs/1711.11586).

    A :py:class:`ProbabilisticUNet` whose prior is standard normal for every image, whose posterior sees the label
    alone, and whose latent joins the image at the U-Net's input: every sample runs the whole U-Net. The paper's has a
    latent of 3 numbers, with ``beta`` 10 in :py:class:`~monai_stochseg.losses.ELBOLoss` on LIDC and 1 on Cityscapes.

    Args:
        spatial_dims: 2 or 3.
        in_channels: number of channels of the image.
        out_channels: number of classes C, the background included.
        channels: number of channels of each level, of the default core and of the posterior network.
        latent_dim: length L of the latent.
        core: any module that maps images joined with the latent, ``[B, in_channels + latent_dim, *S]``, to features
            ``[B, feature_channels, *S]``. Default: :py:class:`BilinearUNet`, the paper's.
        feature_channels: number of channels of the features of a ``core`` that is given.
        norm: normalisation in the default core and in the posterior network, by MONAI's name and options.
            Default: none.
        align_corners: of the default core, see :py:class:`BilinearUNet`.

    Raises:
        ValueError: for fewer than 2 classes, latent_dim below 1, other spatial_dims, numbers of channels that are not
            positive, or a core without feature_channels or the other way round.
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
            fixed_prior=True,
            posterior_image=False,
            latent_at_input=True,
            norm=norm,
            align_corners=align_corners,
        )
