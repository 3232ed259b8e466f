# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import torch

from monai_stochseg.distributions import integrate_flow
from monai_stochseg.distributions.arguments import check_arguments
from monai_stochseg.distributions.flow import LEAST_PROBABILITY
from monai_stochseg.networks.blocks.repeat import repeat_items
from monai_stochseg.networks.export.base import SampleExport
from monai_stochseg.networks.nets.flow_ssn import FlowSSN

__all__ = ["FlowExport"]


class FlowExport(SampleExport):
    """
    A Flow Stochastic Segmentation Network as a function of image and noise: the flow's steps from ``mean + noise``, of
    all samples together, by the network's ``num_steps`` and ``field``. The base runs once an image. TorchScript only.

    The noise of a sample has C numbers for each voxel, in the order ``[C, *S]``.

    Args:
        network: the network, with the solver ``euler``.

    Raises:
        ValueError: for another solver, whose number of steps depends on the image.
    """

    network: FlowSSN
    has_program = False  # torch.export fixes the batch of the noise field

    @check_arguments
    def __init__(self, network: FlowSSN) -> None:
        if network.solver != "euler":
            raise ValueError(f"network: solver must be 'euler' to be exported, got {network.solver!r}.")
        super().__init__(network, per_voxel=network.out_channels)

    def sample_logits(self, image: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """See :py:meth:`SampleExport.sample_logits`."""
        mean = self.network.mean(image)
        samples = noise.shape[1]
        start = repeat_items(mean, samples) + noise.flatten(0, 1).unflatten(1, mean.shape[1:])
        ends = integrate_flow(self._categorical, start, self.network.num_steps, self.network.field)
        return ends.clamp(LEAST_PROBABILITY, 1.0).log().unflatten(0, (-1, samples))

    def _categorical(self, place: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.network.flow(place, t)
        return logits.softmax(1)
