# SPDX-License-Identifier: Apache-2.0
"""NIfTI files: headers that are checked before their voxels are read, and voxels that are read with their checksum."""

from __future__ import annotations

import gzip
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
from monai.data import NibabelReader
from monai.data.utils import correct_nifti_header_if_necessary
from monai.utils import ensure_tuple

from .case import CaseError, unreadable

NIFTI_SUFFIXES = (".nii", ".nii.gz")
_MOST_BYTES_OF_ONE = 1032  # deflate makes one byte of at most so many


def read_header(patient: str, file: str) -> Any:
    """
    Open a NIfTI file, and check that its header describes numbers that the file can hold. No voxel is read.

    Args:
        patient: name of the patient, for the message.
        file: path.

    Returns:
        The image of nibabel, with ``shape`` and ``affine``.

    Raises:
        CaseError: when the header cannot be read, its voxels are no single real numbers, a size is not positive, or
            the file is too small for them.
    """
    try:
        image = nib.load(file)
        shape, dtype, _ = image.shape, image.get_data_dtype(), image.affine
    except Exception as error:  # of nibabel, NumPy or the file system: a header can be wrong in any way
        raise unreadable(patient, file, error) from None
    if dtype.kind not in "biuf":
        raise CaseError(
            f"patient {patient}: {file} has voxels of the type {dtype}, such as colours or complex numbers; "
            "save it with one real number a voxel."
        )
    if not shape or min(shape) < 1:
        raise CaseError(f"patient {patient}: {file} has the shape {shape} in its header; save it again.")
    needed, size = int(image.dataobj.offset) + math.prod(shape) * dtype.itemsize, os.path.getsize(file)
    if needed > size * (_MOST_BYTES_OF_ONE if file.endswith(".gz") else 1):
        raise CaseError(
            f"patient {patient}: {file} is cut off, {size} bytes cannot hold the voxels of the shape {shape} "
            f"({needed} bytes); copy or download it again."
        )
    return image


def check_channels(patient: str, file: str, shape: Sequence[int], found: Sequence[int], channels: int) -> None:
    """
    Check the number of channels of a file.

    Args:
        patient: name of the patient, for the message.
        file: path.
        shape: of the whole file, for the message.
        found: sizes of the axes that follow the three of space.
        channels: how many channels the file should have; of a single one, the axis may be absent.

    Raises:
        CaseError: when the file has others.
    """
    if tuple(found) == (channels,) or (channels == 1 and not found):
        return
    wanted = "one channel" if channels == 1 else f"be 4D with {channels} channels"
    raise CaseError(
        f"patient {patient}: {file} has shape {tuple(shape)}, but should {'have ' if channels == 1 else ''}{wanted}. "
        "One file is one channel of the image, or one rater's map of classes: save the one that is meant, or name a "
        "Layout with channel_order (modalities) or raters_in_file (raters)."
    )


class WholeNibabelReader(NibabelReader):
    """
    MONAI's reader of NIfTI, which stops at the last voxel; this one reads a compressed file to its end, where the
    checksum is, so that a damaged file is an error and not other voxels.
    """

    def read(self, data: Sequence[os.PathLike | str] | os.PathLike | str, **kwargs: Any) -> Any:
        """Read one file, see :py:class:`monai.data.NibabelReader`; several are read by that."""
        files = [str(file) for file in ensure_tuple(data)]
        if len(files) != 1 or not files[0].lower().endswith(".gz"):
            return super().read(data, **kwargs)
        self.filenames = files
        kind = type(nib.load(files[0], **kwargs))
        return correct_nifti_header_if_necessary(kind.from_bytes(gzip.decompress(Path(files[0]).read_bytes())))
