# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from monai_stochseg.distributions import PredictiveDistribution
from monai_stochseg.networks.contract import describe_missing, is_predictive

__all__ = ["SingleAnswer"]


class SingleAnswer(nn.Module):
    """
    A network that gives a distribution, with the logits of its single answer as ``forward``: what tools that know
    segmenters alone can run. Its weights have the names of the network's own.

    Args:
        network: has ``predictive(x)``. Samples are drawn from ``.network``, or from ``predictive``.

    Raises:
        TypeError: when it has not.

    Example::

        >>> from monai_stochseg.networks.nets import MHeadsUNet
        >>> network = MHeadsUNet(2, in_channels=1, out_channels=2, channels=(4, 8), num_heads=3)
        >>> network(torch.zeros(1, 1, 8, 8)).shape  # all heads
        torch.Size([1, 3, 2, 8, 8])
        >>> SingleAnswer(network)(torch.zeros(1, 1, 8, 8)).shape
        torch.Size([1, 2, 8, 8])
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        given: object = network
        if not is_predictive(given):
            raise TypeError(f"network: {describe_missing(network)}.")
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """
        Args:
            x: image ``[B, C_in, *S]``.

        Returns:
            the mode's logits, ``[B, C, *S]``.
        """
        return self.predictive(x).mode_logits()

    def predictive(self, x: torch.Tensor) -> PredictiveDistribution:
        """The network's predictive distribution of an image ``[B, C_in, *S]``."""
        network: Any = self.network
        distribution: PredictiveDistribution = network.predictive(x)
        return distribution

    def __prepare_scriptable__(self) -> nn.Module:
        """What ``torch.jit.script`` calls first: distributions are Python, which it cannot compile."""
        raise ValueError(
            f"{type(self.network).__name__} cannot be scripted, its distribution is Python: trace it, as "
            "`ckpt_export --use_trace True` does, or write its samples by `pack --formats`."
        )

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """The network's own."""
        return self.network.state_dict(*args, **kwargs)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load the network's own weights, as :py:meth:`torch.nn.Module.load_state_dict`."""
        return self.network.load_state_dict(state_dict, strict, assign)
