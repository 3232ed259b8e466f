# SPDX-License-Identifier: Apache-2.0
"""Labels of several raters: the one check of them wherever they enter."""

from __future__ import annotations

from typing import Any

import torch

from monai_stochseg.distributions.arguments import check_arguments, check_num_classes, reads_values
from monai_stochseg.distributions.base import plain

__all__ = ["check_labels", "refuse_class_channels"]


@check_arguments
def check_labels(
    maps: Any,
    num_classes: int,
    ignore_index: int | None = None,
    name: str = "target",
    weights: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Check label maps for being integers within the classes.

    Args:
        maps: label maps of K raters or samples, ``[B, K, *S]``, of any real type or bool.
        num_classes: number of classes C, the background included.
        ignore_index: label of void voxels; None: there are none.
        name: of the argument, for the errors.
        weights: ``[B, K]``, as :py:func:`check_weights` returns them. A map of weight 0 is missing: it may hold any
            value, and all of its voxels are void. None: no map is missing.

    Returns:
        the labels as int64, with void voxels as 0, and the mask of the voxels that are not void; both of the shape of
        ``maps``, plain tensors.

    Raises:
        TypeError: when the maps are no tensor of real numbers.
        ValueError: when there are fewer than 2 classes, there is no map or no voxel, a value is no integer (0.9999,
            NaN, a soft target) or outside the classes, or the maps are the channels of classes or of regions, see
            :py:func:`refuse_class_channels`.

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
    check_num_classes(num_classes=num_classes)
    if weights is not None and weights.shape != maps.shape[:2]:
        raise ValueError(f"weights must be [B, K] of {name}, {tuple(maps.shape[:2])}, got {tuple(weights.shape)}.")
    maps = plain(maps)
    present = None if weights is None else (weights > 0).to(maps.device)
    if present is not None and reads_values() and bool(present.all()):
        present = None  # to fill nothing takes time
    if present is not None:
        present = present.reshape(*present.shape, *[1] * (maps.ndim - 2))
        maps = maps.masked_fill(~present, 0)
    if maps.is_floating_point() and reads_values():
        fractional = maps.frac() != 0  # true for NaN and infinity as well
        if bool(fractional.any()):
            raise ValueError(
                f"{name} must hold integer class labels, got {maps[fractional][0].item():g}: pass label maps and not "
                "probabilities or soft targets, and resample labels with mode='nearest'."
            )
    labels = maps.long()
    valid = torch.ones_like(labels, dtype=torch.bool) if ignore_index is None else labels != ignore_index
    if present is not None:
        valid = valid & present
    labels = labels * valid
    if not reads_values():
        return labels, valid
    low, high = (int(value) for value in labels.aminmax())
    if low < 0 or high >= num_classes:
        raise ValueError(
            f"{name} has label {low if low < 0 else high}, outside the {num_classes} classes 0 to {num_classes - 1}: "
            f"set num_classes, or name a void label as ignore_index (now {ignore_index})."
        )
    if high == 1:
        refuse_class_channels(labels, valid, name, num_classes)
    return labels, valid


def refuse_class_channels(
    labels: torch.Tensor, valid: torch.Tensor | None = None, name: str = "target", num_classes: int | None = None
) -> None:
    """
    Refuse label maps that are channels of classes or of regions, and no raters.

    One-hot channels are disjoint and fill the image. Channels of regions, such as whole tumour, tumour core and
    enhancing tumour of BraTS, lie each within another or apart from it, which maps of three raters of more than two
    classes do not. Two regions, or those of a binary task, cannot be told from raters.

    Args:
        labels: integers ``[B, K, *S]`` of any type.
        valid: true where a voxel is not void, of a shape that broadcasts to that of ``labels``; None: everywhere.
        name: of the argument, for the error.
        num_classes: number of classes C: only C channels are one-hot, and only C or C - 1 are regions. None: not
            known, any number is one-hot, and regions are not looked for.

    Raises:
        ValueError: when the maps are such channels.
    """
    channels = labels.shape[1]
    if channels < 2 or (num_classes is not None and channels not in (num_classes - 1, num_classes)):
        return
    if int(labels.max()) > 1:
        return
    inside = torch.ones_like(labels[:, :1], dtype=torch.bool) if valid is None else valid.all(1, keepdim=True)
    if num_classes in (None, channels) and _are_one_hot(labels, inside):
        raise ValueError(
            f"{name} is one-hot: its {channels} channels are disjoint and fill the image, so they are classes and no "
            "raters. Give the classes, [B, raters, *S], such as argmax(1, keepdim=True)."
        )
    if num_classes is not None and channels > 2 and _are_regions((labels == 1) & inside):
        raise ValueError(
            f"{name} is region channels: each of its {channels} channels lies within another or apart from it, as the "
            f"regions of BraTS do, so they are classes and no raters. Give the {num_classes} classes, "
            "[B, raters, *S], each voxel one class."
        )


def _are_one_hot(labels: torch.Tensor, inside: torch.Tensor) -> bool:
    single = labels.sum(1, keepdim=True) == 1
    if not bool((single | ~inside).all()):
        return False
    # Constant channels may as well be raters who disagree on a small crop.
    low, high = labels.masked_fill(~inside, 1).flatten(2).amin(2), labels.masked_fill(~inside, 0).flatten(2).amax(2)
    return bool((low < high).any())


def _are_regions(binary: torch.Tensor) -> bool:
    """Whether channels ``[B, K, *S]`` are nested or disjoint, and in one item all different and none of them empty."""
    flat = binary.flatten(2).float()  # counts are exact up to 2^24 voxels
    with torch.autocast(flat.device.type, enabled=False):
        common = flat @ flat.mT
    size = common.diagonal(dim1=1, dim2=2)
    smaller, larger = torch.minimum(size[:, :, None], size[:, None]), torch.maximum(size[:, :, None], size[:, None])
    nested = ((common == 0) | (common == smaller)).all()
    same = (common == larger) & ~torch.eye(size.shape[1], dtype=torch.bool, device=size.device)
    distinct = ~same.any(2).any(1) & (size > 0).all(1)
    return bool(nested & distinct.any())
