# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import torch
from monai.inferers import Inferer, SimpleInferer
from torch import nn

from monai_stochseg.distributions import MaskedDistribution, PredictiveDistribution, WindowedDistribution


class PredictiveInferer(Inferer):
    """
    Image in, predictive distribution out, with samples that have no seams.

    Of a network whose ``forward`` gives the distribution's parameters as one tensor and whose
    ``distribution(parameters, mask=)`` reads them, as a Stochastic Segmentation Network does, the parameters are
    stitched from the windows first and sampled once. Any other network needs ``predictive(x)``: with an inferer of
    windows each sample has one noise in all of them, see :py:class:`monai_stochseg.distributions.WindowedDistribution`.

    Args:
        inferer: how windows are taken and stitched, for instance MONAI's ``SlidingWindowInferer`` or
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
            args: further arguments of the network's ``forward`` or ``predictive``.
            mask: region ``[B, 1, *S]`` outside which samples are background.
            kwargs: further keyword arguments of the network's ``forward`` or ``predictive``.

        Raises:
            TypeError: when the network has neither ``distribution`` nor ``predictive``.
        """
        parallel = (nn.parallel.DistributedDataParallel, nn.DataParallel)
        module: Any = network.module if isinstance(network, parallel) else network
        distribution: PredictiveDistribution
        if hasattr(module, "distribution"):
            parameters = self.inferer(inputs, network, *args, **kwargs)
            if mask is not None:
                mask = mask.to(parameters.device)
            distribution = module.distribution(parameters, mask=mask)
            return distribution
        if not hasattr(module, "predictive"):
            raise TypeError(
                f"{type(module).__name__} has neither `distribution(parameters, mask=)` nor `predictive(x)`: it gives "
                "no distribution to draw from."
            )
        if isinstance(self.inferer, SimpleInferer):
            distribution = module.predictive(inputs, *args, **kwargs)
        else:
            distribution = WindowedDistribution(
                inputs, lambda window: module.predictive(window, *args, **kwargs), self.inferer
            )
        return distribution if mask is None else MaskedDistribution(distribution, mask)
