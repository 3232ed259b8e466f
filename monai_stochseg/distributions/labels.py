# SPDX-License-Identifier: Apache-2.0
"""Labels of several raters: the one check of them wherever they enter."""

from __future__ import annotations

import torch

from monai_stochseg.distributions.base import plain

__all__ = ["check_labels"]

_INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def check_labels(
    maps: torch.Tensor, num_classes: int, ignore_index: int | None = None, name: str = "target"
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Check label maps for being integers within the classes.

    Args:
        maps: label maps of K raters or samples, ``[B, K, *S]``, of any real type or bool.
        num_classes: number of classes C, the background included.
        ignore_index: label of void voxels; None: there are none.
        name: of the argument, for the errors.

    Returns:
        the labels as int64, with void voxels as 0, and the mask of the voxels that are not void; both of the shape of
        ``maps``, plain tensors.

    Raises:
        TypeError: when the maps are no tensor of real numbers.
        ValueError: when there is no map or no voxel, a value is no integer (0.9999, NaN, a soft target) or outside the
            classes, or the maps are the one-hot channels of one label.

    Example::

        >>> labels, valid = check_labels(torch.tensor([[[[0, 1], [255, 1]]]]), num_classes=2, ignore_index=255)
        >>> labels.tolist(), valid.tolist()
        ([[[[0, 1], [0, 1]]]], [[[[True, True], [False, True]]]])
    """
    if not isinstance(maps, torch.Tensor) or maps.is_complex():
        kind = maps.dtype if isinstance(maps, torch.Tensor) else type(maps).__name__
        raise TypeError(f"{name} must be a tensor of integer class labels, got {kind}.")
    if maps.ndim < 3 or not maps.numel():
        raise ValueError(
            f"{name} must be label maps of shape [B, K, *S], none of its axes empty, got {tuple(maps.shape)}."
        )
    maps = plain(maps)
    if maps.is_floating_point():
        fractional = maps.frac() != 0  # true for NaN and infinity as well
        if bool(fractional.any()):
            raise ValueError(
                f"{name} must hold integer class labels, got {maps[fractional][0].item():g}: pass label maps and not "
                "probabilities or soft targets, and resample labels with mode='nearest'."
            )
    labels = maps.long()
    valid = torch.ones_like(labels, dtype=torch.bool) if ignore_index is None else labels != ignore_index
    labels = labels * valid
    low, high = (int(value) for value in labels.aminmax())
    if low < 0 or high >= num_classes:
        raise ValueError(
            f"{name} has label {low if low < 0 else high}, outside the {num_classes} classes 0 to {num_classes - 1}: "
            f"set num_classes, or name a void label as ignore_index (now {ignore_index})."
        )
    if labels.shape[1] == num_classes and _are_one_hot(labels, valid):
        raise ValueError(
            f"{name} is one-hot: its {num_classes} channels are disjoint and fill the image, so they are classes and "
            "no raters. Give the classes, [B, raters, *S], such as argmax(1, keepdim=True)."
        )
    return labels, valid


def _are_one_hot(labels: torch.Tensor, valid: torch.Tensor) -> bool:
    """Whether each voxel has a single 1. Constant channels may as well be raters who disagree on a small crop."""
    if int(labels.max()) > 1 or not bool(((labels.sum(1) == 1) | ~valid.all(1)).all()):
        return False
    flat = labels.flatten(2)
    return bool((flat != flat[..., :1]).any())
