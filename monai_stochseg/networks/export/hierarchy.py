# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import torch
from torch.nn import functional as F

from monai_stochseg.distributions import Gaussian
from monai_stochseg.distributions.arguments import check_arguments
from monai_stochseg.networks.blocks.latent_hierarchy import LatentHierarchy
from monai_stochseg.networks.blocks.repeat import repeat_items
from monai_stochseg.networks.export.base import SampleExport

__all__ = ["HierarchyExport"]


class HierarchyExport(SampleExport):
    """
    PHiSeg, or a Hierarchical Probabilistic U-Net, as a function of image and noise: the latent of each level is
    ``mean + sigma * noise``, given the latents before it. The encoder runs once an image.

    The noise of a sample has the channels of all levels, the first level's first, on the image's grid, in the order
    ``[L, *S]``. A level with a coarser grid takes for each of its places the noise of one voxel there, as
    nearest-neighbour interpolation does, so that its numbers are independent; the others are not looked at.

    Args:
        network: the network.
    """

    network: LatentHierarchy

    @check_arguments
    def __init__(self, network: LatentHierarchy) -> None:
        latent_dims = [head.conv.out_channels // 2 for head in network.prior_net.heads]
        super().__init__(network, per_voxel=sum(latent_dims))
        self.latent_dims = latent_dims

    def sample_logits(self, image: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """See :py:meth:`SampleExport.sample_logits`."""
        samples = noise.shape[1]
        features = [repeat_items(own, samples) for own in self.network.prior_net.encoder(image)]
        grid = noise.flatten(0, 1).unflatten(1, (self.per_voxel, *image.shape[2:]))
        levels = grid.split(self.latent_dims, dim=1)

        def choose(level: int, normal: Gaussian) -> torch.Tensor:
            own = F.interpolate(levels[level], size=normal.mean.shape[2:], mode="nearest")
            return normal.mean + normal.log_std.exp() * own

        logits = self.network.decode(features, self.network.prior_net(features, choose))[-1]
        return logits.unflatten(0, (-1, samples))
