# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import ConcatItemsd
from monai.utils import ImageMetaKey

from monai_stochseg.distributions.arguments import check_arguments, naming

from ..data.case import CaseError, check_geometry
from .rater_labels import RATER_WEIGHTS, check_label


class StackRatersd(ConcatItemsd):
    """
    Stack the labels of several raters on the rater axis, as MONAI's ``ConcatItemsd`` does, which neither checks that
    they lie on one voxel grid nor keeps the place of a missing rater. It stands right behind the loading, and before
    whatever moves the label.

    Args:
        keys: keys of the raters' labels, ``[1, *S]`` each.
        name: key of the result, ``[R, *S]``, in the order of ``keys``, with the metadata of the first one.
        rater_weights_key: key to write which raters are there, ``[R]`` float32: 1, or 0 where one is missing. The
            transforms, losses and engines of this package take it as the raters' weights. Default:
            ``"rater_weights"`` where raters may be absent, otherwise not written.
        allow_missing_keys: whether raters may be absent. The label of a missing rater is 0, and its weight as well, so
            that it is not taken for background.
    """

    @check_arguments
    def __init__(
        self,
        keys: KeysCollection,
        name: str = "label",
        rater_weights_key: str | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, name, allow_missing_keys=allow_missing_keys)
        self.rater_weights_key = RATER_WEIGHTS if allow_missing_keys and not rater_weights_key else rater_weights_key

    @check_arguments
    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """
        Stack the raters of one case; its other entries are kept.

        Raises:
            KeyError: when a rater is absent and must not be.
            CaseError: when all raters are absent, a label is not ``[1, *S]``, or the labels differ in shape or affine.
        """
        labels = {key: data[key] for key in self.key_iterator(dict(data))}
        patient = str(data.get("patient", "without a name"))
        if not labels:
            raise CaseError(f"patient {patient}: there is no rater: none of the keys {list(self.keys)} is in the data.")
        for key, label in labels.items():
            if not isinstance(label, torch.Tensor | np.ndarray) or np.iscomplexobj(label):
                raise TypeError(f"the label of {key} must be a tensor or an array, got {type(label).__name__}.")
            with naming(key):
                check_label(torch.as_tensor(label))
            if label.shape[0] != 1:
                file = getattr(label, "meta", {}).get(ImageMetaKey.FILENAME_OR_OBJ, "no file")
                raise CaseError(
                    f"patient {patient}: the label of {key} ({file}) must be [1, *S], one rater, got the shape "
                    f"{tuple(label.shape)}; give each rater a key of their own, and a class a value."
                )
        grids = {str(key): (label.shape[1:], getattr(label, "affine", torch.eye(4))) for key, label in labels.items()}
        check_geometry(patient, grids)

        missing = next(iter(labels.values())) * 0
        d = super().__call__({**data, **{key: labels.get(key, missing) for key in self.keys}})
        for key in set(self.keys) - {*labels, self.name}:
            del d[key]
        if self.rater_weights_key is not None:
            d[self.rater_weights_key] = torch.tensor([float(key in labels) for key in self.keys])
        return d
