# SPDX-License-Identifier: Apache-2.0
"""What goes into a network and what comes out of it: checks by shapes alone."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from monai_stochseg.distributions.arguments import check_spatial_dims

__all__ = [
    "check_features",
    "check_image_axes",
    "check_output",
    "resolve_spatial_dims",
    "run_network",
    "spatial_dims_of",
]

_DIMS = {nn.Conv2d: 2, nn.ConvTranspose2d: 2, nn.Conv3d: 3, nn.ConvTranspose3d: 3}


def spatial_dims_of(network: nn.Module) -> int:
    """The number of spatial axes of a network's images, 2 or 3, by its convolutions; 0 where these do not say."""
    found = {dims for module in network.modules() for kind, dims in _DIMS.items() if isinstance(module, kind)}
    return found.pop() if len(found) == 1 else 0


def check_image_axes(x: torch.Tensor, spatial_dims: int) -> None:
    """
    Check an image by its shape alone, which does not wait for the device. TorchScript compiles it.

    Args:
        x: the argument of this name.
        spatial_dims: 2 or 3; 0: either.

    Raises:
        TypeError: when it is no tensor of real numbers.
        ValueError: when it is not ``[B, C, *S]`` of so many spatial axes, or one of its axes is empty.
    """
    if not torch.jit.is_scripting() and (not isinstance(x, torch.Tensor) or x.is_complex()):
        raise TypeError(f"x must be a tensor of real numbers, got {type(x).__name__}.")
    fits = x.dim() == spatial_dims + 2 if spatial_dims > 0 else x.dim() == 4 or x.dim() == 5
    if not fits or x.numel() == 0:
        axes = "2 or 3" if spatial_dims == 0 else f"{spatial_dims}"
        raise ValueError(
            f"x must be an image [B, C, *S] with {axes} spatial axes, none of its axes empty, got {list(x.shape)}."
        )


def check_output(output: torch.Tensor, x: torch.Tensor, name: str) -> None:
    """
    Check that what a network gives for an image is one tensor of its axes. TorchScript compiles it.

    Args:
        output: what the network gave.
        x: the image, ``[B, C_in, *S]``.
        name: of the argument that brought the network, for the error.

    Raises:
        TypeError: when it is no tensor, such as the list that a network with deep supervision gives.
        ValueError: when it is not ``[B, C, *S]``. Its size may be another: unpadded convolutions give a smaller one.
    """
    if not torch.jit.is_scripting() and not isinstance(output, torch.Tensor):
        raise TypeError(
            f"{name} must return one tensor [B, C, *S], got {type(output).__name__}: of a network with several "
            "outputs, such as those of deep supervision, wrap the one that counts in a module."
        )
    if output.dim() != x.dim() or output.shape[0] != x.shape[0]:
        raise ValueError(f"{name} must return [B, C, *S] for x of {list(x.shape)}, got {list(output.shape)}.")


def run_network(network: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor, name: str) -> torch.Tensor:
    """
    What any network gives for an image, with errors that say what is wrong.

    Args:
        network: maps images ``[B, C_in, *S]`` to one tensor ``[B, C, *S]``.
        x: the argument of this name.
        name: of the argument that brought the network.

    Raises:
        TypeError: when ``x`` is no tensor, or the network gives anything but one tensor.
        ValueError: when ``x`` is no image, has other spatial axes than the network's convolutions and fails in them, or
            the network gives another number of axes or items.
    """
    check_image_axes(x, 0)
    try:
        output = network(x)
    except RuntimeError as error:
        dims = spatial_dims_of(network) if isinstance(network, nn.Module) else 0
        if dims and x.dim() != dims + 2:
            raise ValueError(
                f"x must be an image [B, C, *S] with {dims} spatial axes, as the convolutions of {name} have, got "
                f"{list(x.shape)}."
            ) from error
        raise
    check_output(output, x, name)
    return output


def check_features(features: torch.Tensor, x: torch.Tensor, channels: int, name: str) -> None:
    """As :py:func:`check_output`, of ``feature_channels`` channels."""
    check_output(features, x, name)
    if features.shape[1] != channels:
        raise ValueError(f"the {name} gave {features.shape[1]} channels, feature_channels={channels}.")


def resolve_spatial_dims(spatial_dims: int | None, network: nn.Module, name: str) -> int:
    """
    The number of spatial axes: as given, or those of a network's convolutions.

    Args:
        spatial_dims: 2 or 3; None: read from the network.
        network: the network.
        name: of the argument that brought it, for the error.

    Raises:
        ValueError: for another number, or when the network's convolutions do not say.
    """
    if spatial_dims is None:
        spatial_dims = spatial_dims_of(network)
        if not spatial_dims:
            raise ValueError(f"spatial_dims must be 2 or 3: the convolutions of {name} do not say which, give it.")
    check_spatial_dims(spatial_dims)
    return spatial_dims
