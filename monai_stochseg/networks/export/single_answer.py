# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from monai_stochseg.distributions import PredictiveDistribution
from monai_stochseg.distributions.arguments import check_arguments
from monai_stochseg.distributions.images import spatial_dims_of
from monai_stochseg.networks.contract import describe_missing, is_predictive
from monai_stochseg.networks.export.trace import check_trace

__all__ = ["SingleAnswer"]


class SingleAnswer(nn.Module):
    """
    A network that gives a distribution, with the logits of its single answer as ``forward``: what tools that know
    segmenters alone can run. Its weights have the names of the network's own.

    Args:
        network: has ``predictive(x)``. Samples are drawn from ``.network``, or from ``predictive``.
        input_shape: of an image ``[B, C_in, *S]``, by which ``torch.jit.script`` traces the answer: a distribution is
            Python, which it cannot compile. Default: it refuses.

    Raises:
        TypeError: when it has not.
        ValueError: when ``input_shape`` is no size of an image that the network may take.

    Example::

        >>> from monai_stochseg.networks.nets import MHeadsUNet
        >>> network = MHeadsUNet(2, in_channels=1, out_channels=2, channels=(4, 8), num_heads=3)
        >>> network(torch.zeros(1, 1, 8, 8)).shape  # all heads
        torch.Size([1, 3, 2, 8, 8])
        >>> SingleAnswer(network)(torch.zeros(1, 1, 8, 8)).shape
        torch.Size([1, 2, 8, 8])
    """

    @check_arguments
    def __init__(self, network: nn.Module, input_shape: Sequence[int] | None = None) -> None:
        super().__init__()
        given: object = network
        if not is_predictive(given):
            raise TypeError(f"network: {describe_missing(network)}.")
        if input_shape is not None:
            dims = spatial_dims_of(network)  # 0: not known
            if len(input_shape) not in ([dims + 2] if dims else [4, 5]) or min(input_shape) < 1:
                raise ValueError(f"input_shape must be that of an image [B, C_in, *S], got {list(input_shape)}.")
        self.network = network
        self.input_shape = None if input_shape is None else tuple(input_shape)

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
        """What ``torch.jit.script`` compiles in the place of this module."""
        if self.input_shape is None:
            raise ValueError(
                f"{type(self.network).__name__} cannot be scripted, its distribution is Python: give SingleAnswer an "
                "input_shape, or trace it, as `ckpt_export --use_trace True` does."
            )
        return _Traced(self, torch.zeros(self.input_shape))

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """The network's own."""
        return self.network.state_dict(*args, **kwargs)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load the network's own weights, as :py:meth:`torch.nn.Module.load_state_dict`."""
        return self.network.load_state_dict(state_dict, strict, assign)


class _Traced(nn.Module):
    """A module's trace, which is in a module as ``torch.jit.script`` takes one."""

    def __init__(self, module: nn.Module, image: torch.Tensor) -> None:
        super().__init__()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", torch.jit.TracerWarning)
            self.traced = torch.jit.trace(module, image, check_trace=False)
        check_trace(self.traced, module, image)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        answer: torch.Tensor = self.traced(x)
        return answer
