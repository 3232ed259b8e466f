# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from monai.inferers import Inferer, SimpleInferer
from torch import nn

from monai_stochseg.distributions import MaskedDistribution, PredictiveDistribution, WindowedDistribution
from monai_stochseg.distributions.arguments import check_arguments, check_axes
from monai_stochseg.distributions.geometry import Geometry
from monai_stochseg.networks.contract import describe_missing, gives_parameters, is_predictive


class PredictiveInferer(Inferer):
    """
    Image in, predictive distribution out, with samples that have no seams.

    Some networks give the distribution's parameters as one tensor, which their ``distribution(parameters, mask=)``
    reads, such as a Stochastic Segmentation Network: the parameters are stitched from the windows first and sampled
    once. Any other network needs ``predictive(x)``: with an inferer of windows each sample has one noise in all of
    them, and one noise field where the network has ``noise_channels``, the number of channels of noise on the image's
    grid, see :py:class:`monai_stochseg.distributions.WindowedDistribution`.

    Args:
        inferer: how windows are taken and stitched, for instance MONAI's ``SlidingWindowInferer`` or
            :py:class:`ValidConvolutionInferer`. Default: the whole image at once.
    """

    @check_arguments
    def __init__(self, inferer: Inferer | None = None) -> None:
        super().__init__()
        self.inferer = SimpleInferer() if inferer is None else inferer

    @check_arguments
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

        Returns:
            The distribution; where ``inputs`` is a MetaTensor, its samples and its mode are MetaTensors with the same
            affine and applied transforms.

        Raises:
            ValueError: when the shape of ``inputs`` or ``mask`` does not fit.
            TypeError: when the network has neither a method ``distribution(parameters, mask=)`` nor a method
                ``predictive(x)``.
        """
        check_axes("[B, C_in, *S]", 4, inputs=inputs)
        if mask is not None and (mask.ndim != inputs.ndim or mask.shape != (len(inputs), 1, *mask.shape[2:])):
            raise ValueError(f"mask must be [B, 1, *S] of inputs {tuple(inputs.shape)}, got {tuple(mask.shape)}.")
        distribution = self._infer(inputs, network, *args, mask=mask, **kwargs)
        distribution.geometry = Geometry.of(inputs)
        return distribution

    def _infer(
        self, inputs: torch.Tensor, network: nn.Module, *args: Any, mask: torch.Tensor | None, **kwargs: Any
    ) -> PredictiveDistribution:
        parallel = (nn.parallel.DistributedDataParallel, nn.DataParallel)
        module: Any = network.module if isinstance(network, parallel) else network
        if gives_parameters(module):
            parameters = self.inferer(inputs, network, *args, **kwargs)
            if mask is not None:
                mask = mask.to(parameters.device)
            given: PredictiveDistribution = module.distribution(parameters, mask=mask)
            return given
        if not is_predictive(module):
            raise TypeError(f"{describe_missing(module)}: it gives no distribution to draw from.")
        predictive: Callable[..., PredictiveDistribution] = module.predictive
        if isinstance(self.inferer, SimpleInferer):
            distribution = predictive(inputs, *args, **kwargs)
        else:
            distribution = WindowedDistribution(
                inputs,
                lambda window: predictive(window, *args, **kwargs),
                self.inferer,
                getattr(module, "noise_channels", 0),
            )
        return distribution if mask is None else MaskedDistribution(distribution, mask)
