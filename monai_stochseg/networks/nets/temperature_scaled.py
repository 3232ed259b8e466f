# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from monai_stochseg.distributions import DeterministicDistribution, PredictiveDistribution
from monai_stochseg.distributions.arguments import check_arguments, check_num_classes, check_positive
from monai_stochseg.distributions.images import run_network
from monai_stochseg.distributions.scaled import ScaledDistribution
from monai_stochseg.networks.contract import is_predictive


class TemperatureScaled(nn.Module):
    """
    A trained network whose logits are scaled, and shifted, class by class: temperature and vector scaling (Guo et al.
    2017, https://arxiv.org/abs/1706.04599). :py:func:`monai_stochseg.losses.fit_temperature` finds the values.

    A limit: in windows of a large image the samples of any network have one noise that repeats from window to window;
    parameters are not stitched first.

    Args:
        network: maps images to logits ``[B, C, *S]``, or has ``predictive``.
        scale: of each class, positive; of a single temperature T, 1 / T each.
        bias: of each class. Default: 0.

    Raises:
        ValueError: for fewer than 2 classes, a scale that is not positive, or another number of biases.

    Example::

        found = fit_temperature(validation_logits, validation_raters)
        calibrated = TemperatureScaled(network, found.scale.tolist(), found.bias.tolist())
    """

    scale: torch.Tensor
    bias: torch.Tensor

    @check_arguments
    def __init__(self, network: nn.Module, scale: Sequence[float], bias: Sequence[float] | None = None) -> None:
        super().__init__()
        check_num_classes(scale=len(scale))
        for i, value in enumerate(scale):
            check_positive(**{f"scale[{i}]": value})
        if bias is not None and len(bias) != len(scale):
            raise ValueError(
                f"scale and bias must hold one value for each class, got {len(scale)} and {len(bias)}, {list(bias)}."
            )
        self.network = network
        self.register_buffer("scale", torch.tensor([float(value) for value in scale]))
        self.register_buffer("bias", torch.tensor([float(value) for value in bias or [0.0] * len(scale)]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The scaled logits ``[B, C, *S]`` of the single answer to an image ``[B, C_in, *S]``."""
        return self.predictive(x).mode_logits()

    def predictive(self, x: torch.Tensor) -> PredictiveDistribution:
        """The predictive distribution of an image ``[B, C_in, *S]``, its samples' logits scaled."""
        network: nn.Module = self.network
        if is_predictive(network):
            return ScaledDistribution(network.predictive(x), self.scale, self.bias)
        logits = run_network(network, x, "network")
        return ScaledDistribution(DeterministicDistribution(logits), self.scale, self.bias)
