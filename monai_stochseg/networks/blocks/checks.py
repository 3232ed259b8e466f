# SPDX-License-Identifier: Apache-2.0
"""What the networks of Calibrated Adversarial Refinement check alike."""

from __future__ import annotations

from collections.abc import Sequence

import torch

__all__ = ["check_min_size", "check_options"]


def check_options(
    spatial_dims: int, in_channels: int, num_classes: int, channels: Sequence[int], dropout: float
) -> None:
    """
    Raises ValueError for other ``spatial_dims`` than 2 or 3, fewer than 2 classes, numbers of channels that are not
    positive, or a dropout outside [0, 1).
    """
    if spatial_dims not in (2, 3):
        raise ValueError(f"spatial_dims must be 2 or 3, got {spatial_dims}.")
    if in_channels < 1:
        raise ValueError(f"in_channels must be at least 1, got {in_channels}.")
    if num_classes < 2:
        raise ValueError(f"the number of classes counts the background and must be at least 2, got {num_classes}.")
    if len(channels) == 0 or min(channels) < 1:
        raise ValueError(f"channels must be one or more positive integers, got {tuple(channels)}.")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout must lie in [0, 1), got {dropout}.")


def check_min_size(x: torch.Tensor, levels: int) -> None:
    """Raises ValueError when ``x``, ``[B, C, *S]``, cannot be halved ``levels`` times along each axis."""
    size, least = tuple(x.shape[2:]), 2**levels
    if min(size) < least:
        raise ValueError(
            f"{levels} halvings need at least {least} voxels along each axis, got an image of {size}: pad it, or take "
            "fewer levels."
        )
