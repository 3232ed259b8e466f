# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import torch
from monai.inferers import Inferer, SimpleInferer
from torch import nn

from monai_stochseg.distributions import PredictiveDistribution


class PredictiveInferer(Inferer):
    """
    Image in, predictive distribution out, for networks whose ``forward`` gives the distribution's parameters as one
    tensor and whose ``distribution(parameters, mask=)`` reads them, as a Stochastic Segmentation Network does.

    The parameters of a whole volume are stitched from windows first and sampled once: samples have no seams.

    Args:
        inferer: how the parameters are predicted, for instance MONAI's ``SlidingWindowInferer`` or
            :py:class:`ValidConvolutionInferer`. Default: the whole image at once.
    """

    def __init__(self, inferer: Inferer | None = None) -> None:
        super().__init__()
        self.inferer = SimpleInferer() if inferer is None else inferer

    def __call__(
        self,
        inputs: torch.Tensor,
        network: nn.Module,
        *args: Any,
        mask: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> PredictiveDistribution:
        """
        Args:
            inputs: image ``[B, C_in, *S]``.
            network: the network, or its DistributedDataParallel or DataParallel.
            args: further arguments of the network.
            mask: region ``[B, 1, *S]`` outside which samples are background.
            kwargs: further keyword arguments of the network.
        """
        parameters = self.inferer(inputs, network, *args, **kwargs)
        parallel = (nn.parallel.DistributedDataParallel, nn.DataParallel)
        module: Any = network.module if isinstance(network, parallel) else network
        if mask is not None:
            mask = mask.to(parameters.device)
        distribution: PredictiveDistribution = module.distribution(parameters, mask=mask)
        return distribution
