# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.blocks import Convolution
from torch import nn

from monai_stochseg.distributions import full_precision
from monai_stochseg.distributions.arguments import check_arguments
from monai_stochseg.distributions.images import check_image_axes
from monai_stochseg.networks.blocks.checks import check_min_size, check_options

_NEGATIVE_SLOPE = 0.2


class RefinementDiscriminator(nn.Module):
    """
    The discriminator of Calibrated Adversarial Refinement (Kassapis et al. 2021, https://arxiv.org/abs/2006.13144): it
    judges whether a label map of an image is a rater's or a sample.

    Strided 4x4 convolutions with leaky ReLU and no batch norm, as in DCGAN (Radford et al. 2016,
    https://arxiv.org/abs/1511.06434), on the image and the label map together. The features are averaged over space, so
    that any size is allowed, and read by two linear layers.

    Args:
        spatial_dims: 2 or 3.
        in_channels: number of channels of the image.
        num_classes: number of classes C, the background included.
        channels: number of channels of each level, from the first halving on.

    Raises:
        ValueError: for fewer than 2 classes, other spatial_dims, or numbers of channels that are not positive.
    """

    @check_arguments
    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        num_classes: int,
        channels: Sequence[int] = (64, 128, 256, 512),
    ) -> None:
        super().__init__()
        check_options(spatial_dims, in_channels, num_classes, channels, 0.0, "num_classes")
        self.num_classes = num_classes
        self.spatial_dims = spatial_dims
        self.encoder = nn.Sequential(
            *(
                Convolution(
                    spatial_dims,
                    before,
                    after,
                    strides=2,
                    kernel_size=4,
                    padding=1,
                    adn_ordering="A",
                    act=("LEAKYRELU", {"negative_slope": _NEGATIVE_SLOPE}),
                )
                for before, after in zip([in_channels + num_classes, *channels], channels, strict=False)
            )
        )
        self.head = nn.Sequential(
            nn.Linear(channels[-1], channels[-1]), nn.LeakyReLU(_NEGATIVE_SLOPE), nn.Linear(channels[-1], 1)
        )

    @check_arguments
    def forward(self, x: torch.Tensor, segmentation: torch.Tensor) -> torch.Tensor:
        """
        Args:
            x: images ``[B, in_channels, *S]``.
            segmentation: one-hot labels, or a sample's probabilities, ``[B, C, *S]``.

        Returns:
            one logit of each item, ``[B, 1]``; positive where the label map seems to be a rater's.

        Raises:
            ValueError: when the label maps do not fit the images, or images are smaller than the levels allow.
        """
        check_image_axes(x, self.spatial_dims)
        expected = (len(x), self.num_classes, *x.shape[2:])
        if segmentation.shape != expected:
            raise ValueError(
                f"segmentation must be [B, C, *S] = {expected} for x of {tuple(x.shape)}, got "
                f"{tuple(segmentation.shape)}: make a label one-hot, and join the sample axis with the batch axis, "
                "each image repeated."
            )
        check_min_size(x, len(self.encoder))
        features = self.encoder(torch.cat([full_precision(x), full_precision(segmentation)], dim=1))
        logits: torch.Tensor = self.head(features.flatten(2).mean(2))
        return full_precision(logits)
