# SPDX-License-Identifier: Apache-2.0
"""What the networks of Calibrated Adversarial Refinement check alike."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from monai_stochseg.distributions.arguments import check_at_least, check_fraction, check_num_classes, check_spatial_dims

__all__ = ["check_min_size", "check_options"]


def check_options(
    spatial_dims: int,
    in_channels: int,
    num_classes: int,
    channels: Sequence[int],
    dropout: float,
    classes_name: str = "out_channels",
) -> None:
    """
    Raises ValueError for other ``spatial_dims`` than 2 or 3, fewer than 2 classes, numbers of channels that are not
    positive, or a dropout outside [0, 1). ``classes_name`` is the argument that brought the number of classes.
    """
    check_spatial_dims(spatial_dims)
    check_at_least(1, in_channels=in_channels)
    check_num_classes(**{classes_name: num_classes})
    if len(channels) == 0 or min(channels) < 1:
        raise ValueError(f"channels must be one or more positive integers, got {tuple(channels)}.")
    check_fraction(dropout=dropout)


def check_min_size(x: torch.Tensor, levels: int) -> None:
    """Raises ValueError when ``x``, ``[B, C, *S]``, cannot be halved ``levels`` times along each axis."""
    size, least = tuple(x.shape[2:]), 2**levels
    if min(size) < least:
        raise ValueError(
            f"x is too small: {levels} halvings need at least {least} voxels along each axis, got an image of {size}: "
            "pad it, or take fewer levels."
        )
