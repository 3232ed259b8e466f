# SPDX-License-Identifier: Apache-2.0
"""Load image, raters' labels and brain mask of one case."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from monai.data import MetaTensor
from monai.transforms import LoadImage, MapLabelValue, Transform
from monai.utils import ImageMetaKey, MetaKeys, optional_import

from monai_stochseg.distributions.arguments import check_arguments

from ..data.brain_mask import derive_brain_mask
from ..data.case import CaseError, check_geometry, unreadable
from ..data.nifti import NIFTI_SUFFIXES, WholeNibabelReader, check_channels, read_header
from .pad_raters import PadRatersd


class LoadCased(Transform):
    """
    Load one case of a data list, such as :py:func:`monai_stochseg.data.brats_datalist` makes, and check its voxels.

    The input has ``patient`` and ``image`` (paths), and may have ``channels`` (which channels of those files, in a
    row, to take), ``label`` (paths, one per rater) with ``label_map`` (class in the file to class in the
    result) and ``mask`` (path of a brain mask, or None for images without one, such as CT of the abdomen). One file is
    one channel, unless ``image_channels`` or ``label_channels`` says how many each file has: modalities in one file, or
    raters. ``num_raters`` says to how many raters labels are padded. The result has these in their place, all with the
    image's affine:

    * ``image``: ``[C_in, *S]``, float32. Its file name in the metadata is the patient's, so that savers name their
      files by it;
    * ``label``: ``[R, *S]``, uint8, one channel per rater. With ``num_raters``, R is that, and ``rater_weights``,
      ``[R]``, has 0 for the raters who are missing, see :py:class:`PadRatersd`;
    * ``mask``: ``[1, *S]``, uint8; the mask's file above 0.5, or without one the voxels where any channel is not zero,
      provided that the background is. There is none where ``mask`` was None.

    There is no array version: what is checked is that the parts of a case fit each other.

    Args:
        with_label: whether to load the label, which must then be there. Without it, a label's path is dropped.

    Raises:
        CaseError: when itk is needed and not installed, a file cannot be read, is damaged or has other channels, the
            files differ in shape or affine, a voxel of image or mask is not finite, the brain mask is empty, there is
            none and the image's background is not zero, or a label is missing or holds a value that ``label_map`` does
            not know.
    """

    @check_arguments
    def __init__(self, with_label: bool = True) -> None:
        self.with_label = with_label
        self.load = LoadImage(ensure_channel_first=True, simple_keys=True)
        self.load.register(WholeNibabelReader())

    @check_arguments
    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Load one case; other entries of ``data`` are kept."""
        d: dict[Any, Any] = dict(data)
        patient = d["patient"]
        channels, label_map, label_files = d.pop("channels", None), d.pop("label_map", {}), d.pop("label", [])
        image_channels, label_channels = d.pop("image_channels", 1), d.pop("label_channels", 1)
        with_mask, mask_file = d.get("mask", "") is not None, d.pop("mask", None)
        num_raters = d.pop("num_raters", None)
        if self.with_label and not label_files:
            raise CaseError(f"patient {patient}: there is no label to load; for inference pass with_label=False.")

        files = [*d["image"], *label_files]
        if any(file.endswith(".mha") for file in files) and not optional_import("itk")[1]:
            raise CaseError(f"patient {patient}: reading {files[0]} needs itk: pip install 'monai_stochseg[mha]'.")
        images = [(file, self._read(patient, file, image_channels)) for file in d["image"]]
        labels = [(file, self._read(patient, file, label_channels)) for file in label_files if self.with_label]
        masks = [(file, self._read(patient, file, 1)) for file in [mask_file] if file is not None]
        loaded = images + labels + masks
        check_geometry(patient, {file: (voxels.shape[1:], voxels.affine) for file, voxels in loaded})
        for file, voxels in images + masks:
            if bad := int((~torch.isfinite(voxels)).sum()):
                raise CaseError(f"patient {patient}: {file} has {bad} voxels that are NaN or infinite.")

        image = torch.cat([voxels.as_tensor() for _, voxels in images])
        meta = images[0][1].meta
        meta |= {ImageMetaKey.FILENAME_OR_OBJ: f"{patient}.nii.gz", MetaKeys.ORIGINAL_CHANNEL_DIM: 0}
        d["image"] = MetaTensor(image if channels is None else image[channels], meta=meta)
        if with_mask:
            mask = masks[0][1] > 0.5 if masks else derive_brain_mask(patient, d["image"])
            if not mask.any():
                raise CaseError(f"patient {patient}: the brain mask is empty ({mask_file}).")
            d["mask"] = MetaTensor(torch.as_tensor(mask).to(torch.uint8), meta=meta)
        if self.with_label:
            d["label"] = MetaTensor(_canonical(patient, labels, label_map), meta=meta)
            if num_raters is not None:
                d = PadRatersd("label", num_raters)(d)
        return d

    def _read(self, patient: str, file: str, channels: int) -> MetaTensor:
        """One file, ``[channels, *S]``."""
        if file.endswith(NIFTI_SUFFIXES):
            shape = read_header(patient, file).shape
            check_channels(patient, file, shape, shape[3:], channels)
        try:
            voxels = self.load(file)
        except Exception as error:  # of MONAI, nibabel, itk or zlib: a damaged file can fail in any of them
            raise unreadable(patient, file, error) from None
        check_channels(patient, file, voxels.shape, voxels.shape[:1], channels)
        return voxels


def _canonical(patient: str, labels: Sequence[tuple[str, MetaTensor]], label_map: Mapping[int, int]) -> torch.Tensor:
    """Map each rater's classes and stack the raters, ``[R, *S]`` uint8."""
    classes = {int(value): int(to) for value, to in label_map.items()}  # the keys of a JSON object are strings
    known = torch.tensor(sorted(classes), dtype=torch.float32)
    for file, label in labels:
        unknown = label.as_tensor()[~torch.isin(label.as_tensor(), known)]
        if len(unknown):
            raise CaseError(
                f"patient {patient}: {file} has the label {unknown[0]:g}, which is not one of {list(classes)}."
            )
    voxels = torch.cat([label.as_tensor() for _, label in labels])
    return MapLabelValue(list(classes), list(classes.values()), dtype=torch.uint8)(voxels)
