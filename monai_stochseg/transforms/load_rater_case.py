# SPDX-License-Identifier: Apache-2.0
"""Load the image of one case and the masks of its raters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from monai.data import MetaTensor
from monai.transforms import Transform
from monai.utils import ImageMetaKey, MetaKeys

from monai_stochseg.distributions.arguments import (
    check_arguments,
    check_at_least,
    check_num_classes,
    check_spatial_dims,
)

from ..data.case import CaseError, check_geometry
from ..data.raster import is_raster
from ..data.rater_folder import RaterLayout
from ..data.voxels import Voxels, read_voxels


class LoadRaterCased(Transform):
    """
    Load one case of a data list that :py:func:`monai_stochseg.data.rater_datalist` makes, and check its voxels.

    The result has

    * ``image``: ``[C_in, *S]``, float32. Its file name in the metadata is the case's, so that savers name their files
      by it. Rows and columns of PNG, JPEG and TIFF are ``[H, W]``;
    * ``label``: ``[R, *S]``, uint8, with R the number of raters of ``rater_names`` or ``num_raters``;
    * ``rater_weights``: ``[R]``, 0 for a rater who has no mask of this case.

    There is no array version: what is checked is that the parts of a case fit each other.

    Args:
        layout: what the masks hold, see :py:class:`monai_stochseg.data.RaterLayout`.
        spatial_dims: 2 or 3. A NIfTI file with one slice is an image of 2 dimensions.
        in_channels: number of channels of the image.
        num_classes: number of classes, the background included.
        num_raters: number of raters of the label. Default: those of the case.
        rater_names: where raters are known, their names in the label's order.
        with_label: whether to load the label, which must then be there. Without it, the masks' paths are dropped.

    Raises:
        ValueError: if ``spatial_dims`` is neither 2 nor 3, a number is too small, or two raters have one name.
        CaseError: at a call, if a file cannot be read, files differ in shape or affine, the image has another number of
            dimensions or channels, a voxel is not finite, or a mask is missing, has several channels, or holds a value
            or an overlap of structures that the layout does not know.
    """

    @check_arguments
    def __init__(
        self,
        layout: RaterLayout,
        spatial_dims: int,
        in_channels: int,
        num_classes: int,
        num_raters: int | None = None,
        rater_names: Sequence[str] | None = None,
        with_label: bool = True,
    ) -> None:
        check_spatial_dims(spatial_dims)
        check_at_least(1, in_channels=in_channels)
        check_num_classes(num_classes=num_classes)
        if num_raters is not None:
            check_at_least(1, num_raters=num_raters)
        if rater_names is not None and (not rater_names or len(set(rater_names)) < len(rater_names)):
            raise ValueError(f"rater_names must be different names, at least one, got {list(rater_names)}.")
        self.layout = layout
        self.spatial_dims = spatial_dims
        self.in_channels = in_channels
        self.num_classes = num_classes
        self.num_raters = len(rater_names) if rater_names is not None else num_raters
        self.rater_names = rater_names
        self.with_label = with_label

    @check_arguments
    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Load one case; other entries of ``data`` are kept."""
        d: dict[Any, Any] = dict(data)
        name, files, raters = d["patient"], d.pop("label", []), d.pop("raters", [])
        if self.with_label and not files:
            raise CaseError(f"case {name}: there is no label to load; for inference pass with_label=False.")
        images = [self._read(name, file, is_label=False) for file in d["image"]]
        masks = [[self._read(name, f, is_label=True) for f in reading] for reading in files if self.with_label]
        loaded = [*images, *(mask for reading in masks for mask in reading)]
        check_geometry(name, {one.file: (one.voxels.shape[1:], one.affine) for one in loaded})
        image = torch.cat([one.voxels.float() for one in images])
        self._check_image(name, d["image"][0], image)
        ending = "png" if is_raster(d["image"][0]) else "nii.gz"
        meta = images[0].meta | {ImageMetaKey.FILENAME_OR_OBJ: f"{name}.{ending}", MetaKeys.ORIGINAL_CHANNEL_DIM: 0}
        affine = images[0].affine
        d["image"] = MetaTensor(image, affine=affine, meta=dict(meta))
        if self.with_label:
            label = torch.stack([self._classes(name, reading) for reading in masks])
            label, d["rater_weights"] = self._in_place(name, label, raters)
            d["label"] = MetaTensor(label, affine=affine, meta=dict(meta))
        return d

    def _read(self, name: str, file: str, is_label: bool) -> Voxels:
        return read_voxels(name, file, is_label, self.spatial_dims)

    def _check_image(self, name: str, file: str, image: torch.Tensor) -> None:
        if image.shape[0] != self.in_channels:
            raise CaseError(f"case {name}: {file} has {image.shape[0]} channels, others have {self.in_channels}.")
        if bad := int((~torch.isfinite(image)).sum()):
            raise CaseError(f"case {name}: {file} has {bad} voxels that are NaN or infinite.")

    def _classes(self, name: str, reading: Sequence[Voxels]) -> torch.Tensor:
        """One rater's classes ``[*S]``, uint8."""
        for one in reading:
            if one.voxels.shape[0] != 1:
                raise CaseError(f"case {name}: {one.file} has {one.voxels.shape[0]} channels; a mask has one.")
        if self.layout.structures:
            return _combine(name, reading, self.layout)
        mask = reading[0]
        values, index = torch.unique(mask.voxels[0], return_inverse=True)
        label_map = self.layout.label_map or {value: value for value in range(self.num_classes)}
        classes = {int(value): int(to) for value, to in label_map.items()}  # the keys of a JSON object are strings
        for value in values.tolist():
            if value not in classes:
                raise CaseError(
                    f"case {name}: {mask.file} has the value {value:g}, which is not one of {sorted(classes)}."
                )
        return torch.tensor([classes[int(value)] for value in values.tolist()], dtype=torch.uint8)[index]

    def _in_place(self, name: str, label: torch.Tensor, raters: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Each rater in the place of the label that is his, and the weights."""
        size = len(label) if self.num_raters is None else self.num_raters
        if self.rater_names is None:
            places = list(range(len(label)))
        else:
            unknown = [rater for rater in raters if rater not in self.rater_names]
            if unknown:
                raise CaseError(f"case {name}: rater {unknown[0]!r} is not one of {list(self.rater_names)}.")
            places = [self.rater_names.index(rater) for rater in raters]
        if len(label) > size:
            raise CaseError(f"case {name}: it has {len(label)} raters, more than {size}.")
        placed, weights = label.new_zeros(size, *label.shape[1:]), torch.zeros(size)
        placed[places], weights[places] = label, 1.0
        return placed, weights


def _combine(name: str, reading: Sequence[Voxels], layout: RaterLayout) -> torch.Tensor:
    """The class of each voxel, by the structures whose masks are set there."""
    codes = sum((one.voxels[0] > 0).long() << place for place, one in enumerate(reading))
    known = {sum(1 << place for place in chosen): index for index, chosen in enumerate(layout.class_structures)}
    values, index = torch.unique(torch.as_tensor(codes), return_inverse=True)
    for value in values.tolist():
        if value not in known:
            overlap = [layout.structures[place] for place in range(len(reading)) if value >> place & 1]
            raise CaseError(
                f"case {name}: in {reading[0].file} and its like {', '.join(overlap)} overlap, which no class of the "
                "layout says; add the combination, or make the plan again."
            )
    return torch.tensor([known[value] for value in values.tolist()], dtype=torch.uint8)[index]
