# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import torch
from torch import nn

from monai_stochseg.distributions import full_precision
from monai_stochseg.distributions.arguments import check_arguments, check_num_classes
from monai_stochseg.distributions.images import check_image_axes

_EPS = 1e-6  # a class of probability 0 has a logit too


class GivenProbabilities(nn.Module):
    """
    The class probabilities that are the last channels of an image, in the place of a calibration network: the second
    control of Calibrated Adversarial Refinement (Kassapis et al. 2021, https://arxiv.org/abs/2006.13144, section
    5.2.2), whose refinement is given the true distribution of each pixel. It has no weights.

    :py:class:`monai_stochseg.transforms.ClassSwitchProbabilitiesd` appends such channels.

    Args:
        out_channels: number of classes C, the background included.

    Raises:
        ValueError: for fewer than 2 classes.

    Example::

        >>> probabilities = torch.tensor([0.25, 0.75]).reshape(1, 2, 1, 1)
        >>> logits = GivenProbabilities(2)(torch.cat([torch.zeros(1, 3, 1, 1), probabilities], 1))
        >>> logits.softmax(1).flatten()
        tensor([0.2500, 0.7500])
    """

    @check_arguments
    def __init__(self, out_channels: int) -> None:
        super().__init__()
        check_num_classes(out_channels=out_channels)
        self.out_channels = out_channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """
        Args:
            x: image ``[B, C_in, *S]``, of which the last C channels are probabilities.

        Returns:
            logits ``[B, C, *S]``, the logarithm of the probabilities.

        Raises:
            ValueError: when the image has fewer than C channels.
        """
        check_image_axes(x, 0)
        if x.shape[1] < self.out_channels:
            raise ValueError(
                f"x must end with the probabilities of out_channels={self.out_channels} classes, got "
                f"{x.shape[1]} channels."
            )
        return full_precision(x[:, -self.out_channels :]).clamp(min=_EPS).log()
