# SPDX-License-Identifier: Apache-2.0
"""Checks of label maps that leave large maps in the type that they have."""

from __future__ import annotations

import torch

from monai_stochseg.distributions.base import plain
from monai_stochseg.distributions.labels import refuse_class_channels

__all__ = ["check_integers", "check_label_maps", "refuse_channels_as_raters"]


def check_label_maps(**maps: torch.Tensor) -> list[torch.Tensor]:
    """
    Check sets of label maps against each other.

    Args:
        maps: one or more ``[B, K, *S]`` by argument name; K may differ between them.

    Returns:
        the sets as plain tensors, without the metadata that slows every operation down; boolean ones as uint8 and large
        unsigned integers as int64.

    Raises:
        TypeError: when a set is no tensor of real numbers.
        ValueError: when a set has fewer than three axes or is empty, or the sets differ in B or S.
    """
    first_name, first = next(iter(maps.items()))
    for name, value in maps.items():
        if not isinstance(value, torch.Tensor) or value.is_complex():
            kind = value.dtype if isinstance(value, torch.Tensor) else type(value).__name__
            raise TypeError(f"{name} must be a tensor of integer class labels, got {kind}.")
        if value.ndim < 3 or value.numel() == 0:
            raise ValueError(
                f"{name} must be label maps of shape [B, K, *S], none of its axes empty, got {tuple(value.shape)}."
            )
        if (value.shape[0], value.shape[2:]) != (first.shape[0], first.shape[2:]):
            raise ValueError(
                f"{first_name} and {name} must agree in all axes but the second, got {tuple(first.shape)} and "
                f"{tuple(value.shape)}."
            )
    return [
        plain(value.byte() if value.dtype == torch.bool else value) for value in maps.values()
    ]  # isin takes no bool


def check_integers(name: str, labels: torch.Tensor) -> None:
    """
    Check that labels of a floating type are whole numbers.

    Args:
        name: name of the argument, for the error.
        labels: of any shape.

    Raises:
        ValueError: when one is not.
    """
    if labels.is_floating_point():
        fractional = labels.frac() != 0  # true for NaN and infinity as well
        if fractional.any():
            value = labels[fractional][0].item()
            raise ValueError(
                f"{name} must hold integer class labels, got {value:g}: pass label maps, not probabilities or soft "
                "targets, and resample labels with mode='nearest'."
            )


def refuse_channels_as_raters(
    y: torch.Tensor,
    y_weights: torch.Tensor | None,
    num_classes: int | None = None,
    ignore_index: int | None = None,
    mask: torch.Tensor | None = None,
) -> None:
    """
    Refuse the channels of classes or regions of one label given as raters, see
    :py:func:`monai_stochseg.distributions.labels.refuse_class_channels`.

    Args:
        y: ``[B, R, *S]``, as :py:func:`check_label_maps` returns them.
        y_weights: ``[B, R]``; where one of them is 0 there are raters, and nothing is checked.
        num_classes: number of classes; None: not known.
        ignore_index: the label of void voxels.
        mask: boolean ``[B, 1, *S]``, outside which labels may be anything.

    Raises:
        ValueError: when ``y`` is such channels, or of a floating type and not integers.
    """
    channels = y.shape[1]
    if num_classes is not None and channels not in (num_classes - 1, num_classes):
        return
    if channels < 2 or (y_weights is not None and bool((y_weights == 0).any())):
        return
    valid = torch.ones_like(y, dtype=torch.bool) if mask is None else mask.expand_as(y)
    if ignore_index is not None:
        valid = valid & (y != ignore_index)
    labels = y.where(valid, 0)
    check_integers("y", labels)
    refuse_class_channels(labels, valid, "y", num_classes)
