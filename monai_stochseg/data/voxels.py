# SPDX-License-Identifier: Apache-2.0
"""Read the voxels of any image or mask: volumes by MONAI's readers, 2D images by PIL."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import LoadImage

from .case import CaseError, unreadable
from .nifti import NIFTI_SUFFIXES, WholeNibabelReader, read_header
from .raster import is_raster, read_raster


class Voxels(NamedTuple):
    """
    What a file holds.

    Args:
        file: its path.
        voxels: ``[C, *S]``, float32.
        affine: voxels to mm, or the identity where the file has none.
        meta: what MONAI's reader says of the file, such as units and codes of the header.
    """

    file: str
    voxels: torch.Tensor
    affine: torch.Tensor
    meta: dict[str, Any]


def read_voxels(patient: str, file: str, is_label: bool = False, spatial_dims: int | None = None) -> Voxels:
    """
    Read a file.

    Args:
        patient: name of the case, for the errors.
        file: path of the file.
        is_label: whether it is a mask.
        spatial_dims: 2 or 3; a volume of one slice is an image of 2 dimensions. Default: as many as the file has.

    Raises:
        CaseError: if the file cannot be read, or has another number of dimensions.
    """
    if is_raster(file):
        array = torch.from_numpy(read_raster(patient, file, is_label).astype(np.float32))
        affine, meta = torch.eye(4, dtype=torch.float64), {}
    else:
        loaded = _read_volume(patient, file)
        array, affine, meta = loaded.as_tensor(), loaded.affine, dict(loaded.meta)
    if spatial_dims == 2 and array.dim() == 4 and array.shape[-1] == 1:
        array = array[..., 0]
    if spatial_dims is not None and array.dim() != spatial_dims + 1:
        raise CaseError(
            f"case {patient}: {file} has shape {tuple(array.shape[1:])}, but spatial_dims is {spatial_dims}."
        )
    return Voxels(file, array, affine, meta)


def _read_volume(patient: str, file: str) -> MetaTensor:
    if file.endswith(NIFTI_SUFFIXES):
        read_header(patient, file)
    try:
        loaded: MetaTensor = _loader()(file)
    except Exception as error:  # of MONAI, nibabel, itk or zlib: a damaged file can fail in any of them
        raise unreadable(patient, file, error) from None
    return loaded


@cache
def _loader() -> LoadImage:
    """One for all files: making one asks each of MONAI's readers what it needs, and some complain."""
    load = LoadImage(ensure_channel_first=True, simple_keys=True)
    load.register(WholeNibabelReader())
    return load
