# SPDX-License-Identifier: Apache-2.0
"""What the transforms of several raters' labels share."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, Transform

from monai_stochseg.distributions import check_weights
from monai_stochseg.distributions.arguments import check_arguments, check_axes, check_num_classes, naming
from monai_stochseg.distributions.labels import refuse_class_channels

__all__ = [
    "RATER_WEIGHTS",
    "RaterTransformd",
    "check_label",
    "check_label_shape",
    "class_labels",
    "present_raters",
    "weights_in",
]

# Where batches and cases carry the weights of their raters.
RATER_WEIGHTS = "rater_weights"


def check_label_shape(label: torch.Tensor) -> None:
    """Raise a ValueError unless the label is ``[R, *S]`` of at least one rater and 2 or 3 spatial axes."""
    if label.ndim not in (3, 4) or not label.numel():
        raise ValueError(
            f"label must be [R, *S] of at least one rater and 2 or 3 spatial axes, got the shape {tuple(label.shape)}."
        )


def check_label(label: torch.Tensor) -> None:
    """Raise a ValueError unless the label is ``[R, *S]``, as above, and holds integers, of any classes."""
    check_label_shape(label)
    if label.is_floating_point() and bool((label.frac() != 0).any()):  # true for NaN and infinity as well
        value = float(label[label.frac() != 0][0])
        raise ValueError(
            f"label holds {value:g}, which is not an integer: it has been made soft already, or was interpolated; "
            "resample labels with mode='nearest'."
        )


def present_raters(
    label: torch.Tensor, rater_weights: torch.Tensor | Sequence[float] | None, name: str = "rater_weights"
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    The raters that count.

    Args:
        label: ``[R, *S]``.
        rater_weights: ``[R]``, at least 0, one of them positive; 0 (or False, in a mask) says that a rater is missing.
            None: each of them counts once.
        name: of the weights' argument, for the errors.

    Returns:
        the labels and the weights of the raters whose weight is positive, ``[R', *S]`` and ``[R']`` float32, on the
        device of the label, without metadata.

    Raises:
        ValueError: when the label is not ``[R, *S]`` of 2 or 3 spatial axes, has no rater or no voxel, or the weights
            do not fit.
    """
    check_label_shape(label)
    label = label.as_subclass(torch.Tensor)
    if rater_weights is None:
        return label, torch.ones(len(label), dtype=torch.float32, device=label.device)
    weights = torch.as_tensor(rater_weights).as_subclass(torch.Tensor).to(label.device, torch.float32)
    check_axes("[R]", 1, **{name: weights})
    check_weights(weights[None], label[None], name, "label")
    present = weights > 0
    return label[present], weights[present]


def class_labels(label: torch.Tensor, num_classes: int) -> torch.Tensor:
    """
    The label in the smallest integer type that holds its classes.

    Args:
        label: ``[R, *S]``, integer classes of any type.
        num_classes: number of classes C, the background included.

    Returns:
        ``[R, *S]``, uint8, or int32 for more than 256 classes.

    Raises:
        ValueError: when a value is not an integer, lies outside the classes, or the label is one-hot already.
    """
    check_num_classes(num_classes=num_classes)
    low, high = (float(value) for value in (label.byte() if label.dtype == torch.bool else label).aminmax())
    if not (low >= 0 and high < num_classes):  # false for NaN too
        raise ValueError(
            f"label holds values from {low:g} to {high:g}, outside the {num_classes} classes; map them to 0 up to "
            f"{num_classes - 1} by MONAI's MapLabelValue, void voxels included."
        )
    classes = label.to(torch.uint8 if num_classes <= 256 else torch.int32)
    if label.is_floating_point() and not torch.equal(classes.to(label.dtype), label):
        value = float(label[classes != label][0])
        raise ValueError(
            f"label holds {value:g}, which is not an integer: it has been made soft already, or was interpolated; "
            "make it soft once, as the last transform, and resample labels with mode='nearest', under "
            "Compose(lazy=True) by its overrides."
        )
    refuse_class_channels(classes[None], name="label", num_classes=num_classes)
    return classes


def weights_in(data: Mapping[Hashable, Any], key: str | None) -> Any:
    """
    The raters' weights of a case.

    Args:
        data: the case.
        key: where they are. A case need not have weights under ``"rater_weights"``; under another key it must. None:
            each rater counts once.

    Raises:
        KeyError: when there is no other key of this name.
    """
    if key is None or (key == RATER_WEIGHTS and key not in data):
        return None
    if key not in data:
        raise KeyError(f"rater_weights_key: the case has no {key!r}, its keys are {list(data)}.")
    return data[key]


class RaterTransformd(MapTransform):
    """
    Apply a transform of one label and its raters' weights to labels in a dictionary.

    Args:
        keys: keys of the labels, ``[R, *S]``.
        transform: called with a label and the weights of its raters.
        rater_weights_key: key of the weights of the raters, ``[R]``, or of a mask that is 0 where a rater is missing,
            see :py:func:`weights_in`; it is removed with the raters.
        allow_missing_keys: whether a label may be absent.
    """

    @check_arguments
    def __init__(
        self,
        keys: KeysCollection,
        transform: Transform,
        rater_weights_key: str | None = "rater_weights",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.transform = transform
        self.rater_weights_key = rater_weights_key

    @check_arguments
    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Transform the labels of ``keys``; raises as the array version."""
        d = dict(data)
        weights = weights_in(d, self.rater_weights_key)
        for key in self.key_iterator(d):
            with naming(key, self.rater_weights_key):
                d[key] = self.transform(d[key], weights)
        if self.rater_weights_key is not None:
            d.pop(self.rater_weights_key, None)  # what is left has no raters, and a loss must not weigh it by them
        return d
