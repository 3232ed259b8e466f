# SPDX-License-Identifier: Apache-2.0
"""Make a label void outside a region."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

import torch
from monai.config import KeysCollection, NdarrayOrTensor
from monai.transforms import MapTransform, Transform
from monai.utils import TransformBackends, convert_to_dst_type, convert_to_tensor

from monai_stochseg.distributions.arguments import check_arguments, naming

from .rater_labels import check_label


class MaskLabel(Transform):
    """
    Set the voxels of a label outside a region to ``ignore_index``, so that losses and metrics leave them out.

    Args:
        ignore_index: the class of a void voxel.
    """

    backend = (TransformBackends.TORCH,)

    @check_arguments
    def __init__(self, ignore_index: int = 255) -> None:
        self.ignore_index = ignore_index

    @check_arguments
    def __call__(self, label: NdarrayOrTensor, mask: NdarrayOrTensor) -> NdarrayOrTensor:
        """
        Mask every rater.

        Args:
            label: ``[R, *S]``, integer classes.
            mask: ``[1, *S]``, positive within the region.

        Returns:
            ``[R, *S]``, of the type of ``label``.

        Raises:
            ValueError: when a label is no integer, the shape of ``mask`` is not ``[1, *S]``, or the type of ``label``
                cannot hold ``ignore_index``.
        """
        label_t = convert_to_tensor(label, track_meta=True)
        mask_t = convert_to_tensor(mask, track_meta=False)
        check_label(label_t)
        if mask_t.shape != (1, *label_t.shape[1:]):
            raise ValueError(
                f"mask must have the shape {(1, *label_t.shape[1:])}, got {tuple(mask_t.shape)} for a label of "
                f"{tuple(label_t.shape)}."
            )
        if not label_t.is_floating_point():
            bounds = torch.iinfo(label_t.dtype)
            if not bounds.min <= self.ignore_index <= bounds.max:
                raise ValueError(
                    f"ignore_index {self.ignore_index} does not fit a label of type {label_t.dtype}; "
                    f"choose one from {bounds.min} to {bounds.max}."
                )
        return convert_to_dst_type(label_t.masked_fill(mask_t <= 0, self.ignore_index), dst=label)[0]


class MaskLabeld(MapTransform):
    """
    Dictionary-based version of :py:class:`MaskLabel`.

    Args:
        keys: keys of the labels, ``[R, *S]``.
        mask_key: key of the region, ``[1, *S]``.
        ignore_index: the class of a void voxel.
        allow_missing_keys: whether a label may be absent.
    """

    backend = MaskLabel.backend

    @check_arguments
    def __init__(
        self,
        keys: KeysCollection,
        mask_key: str = "mask",
        ignore_index: int = 255,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.mask_key = mask_key
        self.mask_label = MaskLabel(ignore_index)

    @check_arguments
    def __call__(self, data: Mapping[Hashable, NdarrayOrTensor]) -> dict[Hashable, NdarrayOrTensor]:
        """Mask the labels of ``keys``; raises as :py:class:`MaskLabel`."""
        d = dict(data)
        for key in self.key_iterator(d):
            if self.mask_key not in d:
                raise KeyError(f"mask_key: the case has no {self.mask_key!r}, its keys are {list(d)}.")
            with naming(key, self.mask_key):
                d[key] = self.mask_label(d[key], d[self.mask_key])
        return d
