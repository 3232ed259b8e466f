# SPDX-License-Identifier: Apache-2.0
"""Labels of several raters: the one check of them wherever they enter."""

from __future__ import annotations

import torch

from monai_stochseg.distributions.base import plain

__all__ = ["check_labels", "refuse_one_hot"]


def check_labels(
    maps: torch.Tensor,
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
    present = None if weights is None or bool((weights > 0).all()) else (weights > 0).to(maps.device)
    if present is not None:
        present = present.reshape(*present.shape, *[1] * (maps.ndim - 2))
        maps = maps.masked_fill(~present, 0)
    if maps.is_floating_point():
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
    low, high = (int(value) for value in labels.aminmax())
    if low < 0 or high >= num_classes:
        raise ValueError(
            f"{name} has label {low if low < 0 else high}, outside the {num_classes} classes 0 to {num_classes - 1}: "
            f"set num_classes, or name a void label as ignore_index (now {ignore_index})."
        )
    if labels.shape[1] == num_classes:
        refuse_one_hot(labels, valid, name)
    return labels, valid


def refuse_one_hot(labels: torch.Tensor, valid: torch.Tensor | None = None, name: str = "target") -> None:
    """
    Refuse label maps that are the one-hot channels of one label.

    Args:
        labels: integers ``[B, K, *S]`` of any type.
        valid: true where a voxel is not void, of a shape that broadcasts to that of ``labels``; None: everywhere.
        name: of the argument, for the error.

    Raises:
        ValueError: when each voxel has a single 1 and 0 otherwise.
    """
    if labels.shape[1] < 2 or int(labels.max()) > 1:
        return
    inside = torch.ones_like(labels[:, :1], dtype=torch.bool) if valid is None else valid.all(1, keepdim=True)
    single = labels.sum(1, keepdim=True) == 1
    if not bool((single | ~inside).all()):
        return
    # Constant channels may as well be raters who disagree on a small crop.
    low, high = labels.masked_fill(~inside, 1).flatten(2).amin(2), labels.masked_fill(~inside, 0).flatten(2).amax(2)
    if bool((low < high).any()):
        raise ValueError(
            f"{name} is one-hot: its {labels.shape[1]} channels are disjoint and fill the image, so they are classes "
            "and no raters. Give the classes, [B, raters, *S], such as argmax(1, keepdim=True)."
        )
