# SPDX-License-Identifier: Apache-2.0
"""Refuse an image that is smaller than the patch."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection, NdarrayOrTensor
from monai.transforms import MapTransform, Transform
from monai.utils import TransformBackends, ensure_tuple

from monai_stochseg.distributions.arguments import check_arguments, check_at_least, check_axes, check_per_axis, naming

from ..data.case import CaseError


class CheckMinSize(Transform):
    """
    Pass an image on if it is at least as large as the patches that will be cropped from it.

    Put it directly before the cropping, after what changes the size, such as ``Spacing`` or ``CropForeground``.

    Args:
        min_size: size of a patch, one number for all axes or one per axis.

    Raises:
        ValueError: when a size is below 1.
    """

    backend = (TransformBackends.TORCH, TransformBackends.NUMPY)

    @check_arguments
    def __init__(self, min_size: Sequence[int] | int) -> None:
        for n in ensure_tuple(min_size):
            check_at_least(1, min_size=n)
        self.min_size = min_size

    @check_arguments
    def __call__(self, img: NdarrayOrTensor, name: str = "image") -> NdarrayOrTensor:
        """
        Check one image.

        Args:
            img: ``[C, *S]``.
            name: name of the image in the message.

        Raises:
            CaseError: when the image is smaller than the patch along any axis.
        """
        check_axes("[C, *S]", 3, img=torch.as_tensor(img))
        size = tuple(img.shape[1:])
        min_size = check_per_axis("min_size", self.min_size, len(size), "img")
        if any(have < need for have, need in zip(size, min_size, strict=True)):
            raise CaseError(f"{name}: the patch {min_size} is larger than the image {size}; take a smaller patch.")
        return img


class CheckMinSized(MapTransform):
    """
    Dictionary-based version of :py:class:`CheckMinSize`; its message names the ``patient``, where the data name one.

    Args:
        keys: keys of the images, ``[C, *S]``.
        min_size: size of a patch, one number for all axes or one per axis.
        allow_missing_keys: whether an image may be absent.
    """

    backend = CheckMinSize.backend

    @check_arguments
    def __init__(self, keys: KeysCollection, min_size: Sequence[int] | int, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.check = CheckMinSize(min_size)

    @check_arguments
    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Check the images of ``keys``; raises as :py:class:`CheckMinSize`, and changes nothing."""
        d = dict(data)
        for key in self.key_iterator(d):
            with naming(key):
                self.check(d[key], name=f"patient {d['patient']}: {key}" if "patient" in d else f"{key}")
        return d
