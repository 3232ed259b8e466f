# SPDX-License-Identifier: Apache-2.0
"""What the rest of the package asks of a network that answers with a distribution."""

from __future__ import annotations

import inspect
from typing import Any, Protocol, TypeGuard

import torch

from monai_stochseg.distributions import PredictiveDistribution

__all__ = ["ParameterNetwork", "PredictiveNetwork", "describe_missing", "gives_parameters", "is_predictive"]


class PredictiveNetwork(Protocol):
    """A network that gives the predictive distribution of an image."""

    def predictive(self, x: torch.Tensor) -> PredictiveDistribution:
        """
        Args:
            x: image ``[B, C_in, *S]``.
        """
        ...


class ParameterNetwork(Protocol):
    """A network whose ``forward`` gives all parameters of its distribution as one tensor ``[B, P, *S]``."""

    def distribution(self, parameters: torch.Tensor, mask: torch.Tensor | None = None) -> PredictiveDistribution:
        """
        Args:
            parameters: output of ``forward``, whole or stitched from windows, ``[B, P, *S]``.
            mask: region ``[B, 1, *S]`` outside which samples are background.
        """
        ...


def gives_parameters(network: object) -> TypeGuard[ParameterNetwork]:
    """Whether the network has a method ``distribution`` that can be called with ``(parameters, mask=mask)``."""
    method: Any = getattr(network, "distribution", None)
    if not inspect.ismethod(method):  # a name, a submodule or a class of torch.distributions is another thing
        return False
    try:
        inspect.signature(method).bind(None, mask=None)
    except TypeError:
        return False
    return True


def is_predictive(network: object) -> TypeGuard[PredictiveNetwork]:
    """Whether the network has a method ``predictive``."""
    return inspect.ismethod(getattr(network, "predictive", None))


def describe_missing(network: object) -> str:
    """
    What a network that has neither of both methods lacks, for an error.

    Example::

        >>> describe_missing(object())
        'object has neither a method predictive(x) nor a method distribution(parameters, mask=None)'
    """
    needed = "neither a method predictive(x) nor a method distribution(parameters, mask=None)"
    message = f"{type(network).__name__} has {needed}"
    for name in ("predictive", "distribution"):
        value = getattr(network, name, None)
        if inspect.ismethod(value):
            message += f"; its {name} takes other arguments, {name}{inspect.signature(value)}"
        elif value is not None:
            message += f"; its {name} is no method but {value!r:.60}"
    return message
