# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from monai_stochseg.distributions import DropoutDistribution
from monai_stochseg.distributions.arguments import check_arguments
from monai_stochseg.distributions.dropout import DROPOUT_LAYERS
from monai_stochseg.distributions.images import run_network
from monai_stochseg.networks.nets.bilinear_unet import BilinearUNet


class MonteCarloDropout(nn.Module):
    """
    Monte Carlo dropout (Gal and Ghahramani 2016, https://arxiv.org/abs/1506.02142; for segmentation Kendall et al.
    2015, https://arxiv.org/abs/1511.02680): any network that was trained with dropout, made a sampler.

    Args:
        network: maps images ``[B, C_in, *S]`` to logits ``[B, C, *S]``, and has dropout layers of ``torch.nn``, which
            MONAI's networks build from their ``dropout`` argument.

    Raises:
        ValueError: when the network has no dropout layer with a probability above 0.

    Example::

        network = UNet(spatial_dims=2, in_channels=1, out_channels=2, channels=(16, 32), strides=(2,), dropout=0.5)
        samples = MonteCarloDropout(network).predictive(image).sample_logits(16).argmax(2)  # [B, 16, *S]
    """

    @check_arguments
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        if not any(isinstance(module, DROPOUT_LAYERS) and module.p > 0 for module in network.modules()):
            raise ValueError(
                f"{type(network).__name__} has no dropout layer with p above 0, its samples would all be the same: "
                "build it with dropout."
            )
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The logits ``[B, C, *S]`` of an image ``[B, C_in, *S]``, with dropout in training mode."""
        if torch.jit.is_scripting():  # which knows neither exceptions nor networks as arguments
            scripted: torch.Tensor = self.network(x)
            return scripted
        return run_network(self.network, x, "network")

    def predictive(self, x: torch.Tensor) -> DropoutDistribution:
        """The predictive distribution of an image ``[B, C_in, *S]``; the network runs once for each sample."""
        return DropoutDistribution(self.network, x)


class DropoutUNet(MonteCarloDropout):
    """
    Dropout U-Net, a baseline of the Probabilistic U-Net's paper (Kohl et al. 2018, https://arxiv.org/abs/1806.05034)
    after Kendall et al. 2015 (https://arxiv.org/abs/1511.02680): the paper's U-Net, with dropout of the incoming
    features of the three innermost blocks of encoder and decoder, in training and in sampling.

    Args:
        spatial_dims: 2 or 3.
        in_channels: number of channels of the image.
        out_channels: number of classes C, the background included.
        channels: number of channels of each level.
        dropout: probability with which a feature is dropped.
        norm: normalisation, by MONAI's name and options. Default: none.
        align_corners: see :py:class:`BilinearUNet`.

    Raises:
        ValueError: for other spatial_dims, numbers of channels that are not positive, fewer than two levels, or a
            dropout that is not in (0, 1).
    """

    @check_arguments
    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        channels: Sequence[int] = (32, 64, 128, 256, 512),
        dropout: float = 0.5,
        norm: str | tuple | None = None,
        align_corners: bool = False,
    ) -> None:
        super().__init__(BilinearUNet(spatial_dims, in_channels, out_channels, channels, norm, dropout, align_corners))
