# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence

import torch

from monai_stochseg.distributions import split_parameters
from monai_stochseg.distributions.arguments import check_arguments
from monai_stochseg.networks.export.base import SampleExport
from monai_stochseg.networks.nets.stochastic_segmentation_network import StochasticSegmentationNetwork

__all__ = ["LowRankNormalExport"]


class LowRankNormalExport(SampleExport):
    """
    A Stochastic Segmentation Network as a function of image and noise: ``mean + P e1 + sqrt(D) e2``, with the
    network's ``temperature``, ``class_scale`` and ``rank_scale``.

    The noise of a sample is e1, R numbers, and then e2, C for each voxel, in the order ``[C, *S]``. There is no region
    mask.

    Args:
        network: the network.
    """

    network: StochasticSegmentationNetwork
    class_scale: torch.Tensor
    rank_scale: torch.Tensor

    @check_arguments
    def __init__(self, network: StochasticSegmentationNetwork) -> None:
        super().__init__(network, fixed=network.rank, per_voxel=network.out_channels)
        ones = [1.0] * network.out_channels
        scale = torch.tensor(network.class_scale or ones) * network.temperature
        self.register_buffer("class_scale", scale.reshape(-1, *[1] * network.spatial_dims), persistent=False)
        self.register_buffer("rank_scale", torch.tensor(network.rank_scale or [1.0] * network.rank), persistent=False)

    def logits_size(self, image: torch.Tensor) -> Sequence[int]:
        """Those of the network: unpadded convolutions give fewer voxels than the image has."""
        return self.network(image).shape[2:]

    def sample_logits(self, image: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """See :py:meth:`SampleExport.sample_logits`."""
        rank = self.network.rank
        mean, log_diag, factor = split_parameters(self.network(image), self.network.out_channels, rank)
        self.check_noise(noise, mean.shape[2:])
        shape = (noise.shape[0], noise.shape[1], *mean.shape[1:])
        deviation = torch.matmul(noise[:, :, :rank] * self.rank_scale, factor.flatten(2)).reshape(shape)
        own = noise[:, :, rank:].reshape(shape)
        deviation = deviation + (0.5 * log_diag).exp().unsqueeze(1) * own
        return mean.unsqueeze(1) + deviation * self.class_scale
