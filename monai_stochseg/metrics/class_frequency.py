# SPDX-License-Identifier: Apache-2.0
"""Class probabilities per voxel: their check, and the frequency of each class in a set of label maps."""

from __future__ import annotations

import torch

from monai_stochseg.distributions.arguments import check_num_classes
from monai_stochseg.distributions.base import plain
from monai_stochseg.distributions.probabilities import check_class_probabilities

from .label_maps import check_integers

__all__ = ["check_mask", "check_probabilities", "label_frequency"]


def check_mask(mask: torch.Tensor | None, like: torch.Tensor, name: str) -> torch.Tensor:
    """
    Check a region mask against a tensor ``[B, K, *S]``, that of the argument ``name``.

    Returns:
        boolean ``[B, 1, *S]`` on the device of ``like``, true where the mask is above 0; None is everywhere.

    Raises:
        ValueError: when the shape does not match.
    """
    shape = (like.shape[0], 1, *like.shape[2:])
    if mask is None:
        return torch.ones(shape, dtype=torch.bool, device=like.device)
    if not isinstance(mask, torch.Tensor) or mask.is_complex():
        raise TypeError(f"mask must be a tensor of real numbers, got {type(mask).__name__}.")
    if mask.shape != shape:
        raise ValueError(f"mask must have shape [B, 1, *S] = {shape}, got {tuple(mask.shape)} for {name}.")
    return plain(mask).to(like.device) > 0


def check_probabilities(name: str, probabilities: torch.Tensor, class_axis: int = 1) -> torch.Tensor:
    """
    Check class probabilities.

    Args:
        name: name of the argument, for the errors.
        probabilities: ``[B, C, *S]``, or ``[B, N, C, *S]`` with ``class_axis=2``.
        class_axis: the axis of the classes.

    Returns:
        a plain tensor in PyTorch's default dtype, without a gradient.

    Raises:
        TypeError: when they are no tensor.
        ValueError: when there are too few axes or classes, or the values are no probabilities that sum to 1.
    """
    if not isinstance(probabilities, torch.Tensor):
        raise TypeError(f"{name} must be a tensor of class probabilities, got {type(probabilities).__name__}.")
    if (
        probabilities.ndim not in (class_axis + 2, class_axis + 3, class_axis + 4)
        or probabilities.numel() == 0
        or probabilities.shape[class_axis] < 2
    ):
        axes = "[B, C, *S]" if class_axis == 1 else "[B, N, C, *S]"
        raise ValueError(
            f"{name} must be class probabilities of shape {axes} with C of at least 2, "
            f"got {tuple(probabilities.shape)}."
        )
    values = plain(probabilities).detach().to(torch.get_default_dtype())
    check_class_probabilities(name, values, class_axis, "pass the softmax of logits.")
    return values


def label_frequency(
    name: str, maps: torch.Tensor, weights: torch.Tensor, num_classes: int, mask: torch.Tensor
) -> torch.Tensor:
    """
    Weighted share of the maps that give a voxel each class.

    Args:
        name: name of the argument that brought the maps, for the errors.
        maps: label maps ``[B, K, *S]``, as :py:func:`~.pairwise_distance.check_label_maps` returns them.
        weights: ``[B, K]``, as :py:func:`monai_stochseg.distributions.check_weights` returns them. A map of weight 0
            may hold anything.
        num_classes: number of classes C, the background included.
        mask: boolean ``[B, 1, *S]``, outside which labels may be anything.

    Returns:
        ``[B, C, *S]`` in PyTorch's default dtype, summing to 1 over C inside the mask.

    Raises:
        ValueError: when there are fewer than two classes, or a label of a map that counts is no integer or outside
            them.
    """
    check_num_classes(num_classes=num_classes)
    for item, row_weights, region in zip(maps, weights, mask, strict=True):
        counted = item[row_weights > 0].where(region, 0)
        check_integers(name, counted)
        low, high = (int(value) for value in counted.long().aminmax())
        if low < 0 or high >= num_classes:
            raise ValueError(
                f"{name} has label {low if low < 0 else high}, outside the {num_classes} classes 0 to "
                f"{num_classes - 1}: set num_classes, or leave void voxels out by the mask."
            )
    weights = weights.reshape(*weights.shape, *[1] * (maps.ndim - 2))
    return torch.stack([((maps == c) * weights).sum(1) for c in range(num_classes)], dim=1)
