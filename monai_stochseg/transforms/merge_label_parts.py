# SPDX-License-Identifier: Apache-2.0
"""Make one label map of one mask per class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from monai.data import MetaTensor
from monai.transforms import Transform

from monai_stochseg.distributions.arguments import check_arguments

from ..data.case import CaseError


class MergeLabelPartsd(Transform):
    """
    Make one label map of the masks that :py:class:`LoadCased` loaded, one per class; run it right after that.

    A case with ``label_classes``, the class of each channel of ``label``, gets ``label`` as ``[1, *S]`` uint8 in place
    of ``[len(label_classes), *S]``. Other cases, and those loaded without label, stay as they are, so that one pipeline
    serves data sets of both kinds. There is no array version: the classes come with the case.

    Raises:
        CaseError: when two masks share a voxel, or there is not one class for each mask.
    """

    @check_arguments
    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Merge the label of one case; other entries of ``data`` are kept."""
        d = dict(data)
        classes = d.pop("label_classes", None)
        if classes is None or "label" not in d:
            return d
        label = d["label"]
        if not isinstance(label, MetaTensor) or label.is_complex() or label.ndim < 2:
            raise CaseError(f"patient {d.get('patient')}: label must be a MetaTensor [masks, *S], got {label!r:.60}.")
        masks = label.as_tensor() > 0
        whole = isinstance(classes, Sequence) and all(isinstance(c, int) and not isinstance(c, bool) for c in classes)
        if not whole or len(classes) != len(masks) or min(classes) < 0:
            raise CaseError(
                f"patient {d.get('patient')}: label_classes must name one class, 0 or more, for each of the "
                f"{len(masks)} masks of label, got {classes!r:.60}."
            )
        if shared := int((masks.sum(0) > 1).sum()):
            raise CaseError(
                f"patient {d.get('patient')}: {shared} voxels of label lie in the masks of two of the classes "
                f"{list(classes)}; a voxel can have one class."
            )
        merged = sum(mask * int(value) for mask, value in zip(masks, classes, strict=True))
        d["label"] = MetaTensor(merged[None].to(label.dtype), meta=label.meta)
        return d
