# SPDX-License-Identifier: Apache-2.0
"""Maps as the page gets them, and as files to keep."""

from __future__ import annotations

import gzip
import io
from collections.abc import Sequence

import nibabel as nib
import numpy as np

from monai_stochseg.data import CaseError
from monai_stochseg.explore.opened_case import OpenedCase
from monai_stochseg.transforms.save_raster import picture_of_map, picture_of_shares

__all__ = [
    "colour_image",
    "drawn_affine",
    "drawn_grid",
    "drawn_shape",
    "export_file",
    "served_focus",
    "served_nifti",
    "served_voxels",
]

_LARGEST = 2048  # voxels along an axis that every graphics card of WebGL2 has
_COLOUR = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])  # NIfTI's RGB24


def drawn_grid(case: OpenedCase, values: np.ndarray) -> np.ndarray:
    """
    The values ``[V]`` on the grid that is drawn, three axes: of a volume to the right, the front and the head, as near
    as the file's axes allow; of a 2D image to the right and up, and a third of one.
    """
    grid = values.reshape(case.shape, order="F")
    if case.record.spatial_dims == 3:
        turned: np.ndarray = nib.orientations.apply_orientation(grid, _orientation(case))
    else:
        turned = (grid.T[:, ::-1] if case.record.indexing == "ij" else grid)[..., None]
    return turned[tuple(slice(None, None, step) for step in _steps(turned.shape))]


def _steps(shape: Sequence[int]) -> list[int]:
    """Of each axis one voxel in so many is drawn: the textures of graphics cards have a largest size."""
    return [-(-size // _LARGEST) for size in shape]


def _orientation(case: OpenedCase) -> np.ndarray:
    orientation: np.ndarray = nib.orientations.io_orientation(case.affine)
    return orientation


def _turned_shape(case: OpenedCase) -> list[int]:
    """The shape of the grid that is drawn, before voxels are left out."""
    if case.record.spatial_dims == 2:
        return [*(case.shape[::-1] if case.record.indexing == "ij" else case.shape), 1]
    turned = [0, 0, 0]
    for (target, _), size in zip(_orientation(case), case.shape, strict=True):
        turned[int(target)] = size
    return turned


def drawn_shape(case: OpenedCase) -> tuple[int, int, int]:
    """The shape of the grid that is drawn."""
    whole = _turned_shape(case)
    first, second, third = (-(-size // step) for size, step in zip(whole, _steps(whole), strict=True))
    return first, second, third


def served_voxels(case: OpenedCase, values: np.ndarray) -> bytes:
    """The voxels alone, the first axis fastest."""
    return drawn_grid(case, values).tobytes(order="F")


def served_nifti(case: OpenedCase, values: np.ndarray) -> bytes:
    """
    An uncompressed NIfTI file.

    Args:
        case: has the geometry.
        values: ``[V]``, of a type that NIfTI has.
    """
    return _nifti(case, drawn_grid(case, values))


def _nifti(case: OpenedCase, grid: np.ndarray) -> bytes:
    image = nib.Nifti1Image(grid, drawn_affine(case), dtype=grid.dtype)
    content: bytes = image.to_bytes()
    return content


def drawn_affine(case: OpenedCase) -> np.ndarray:
    """The affine of the grid that is drawn: the turned one of the files, and of a 2D image its pixel sizes."""
    if case.record.spatial_dims == 3:
        turned: np.ndarray = case.affine @ nib.orientations.inv_ornt_aff(_orientation(case), case.shape)
    else:
        first, second = case.voxel_size
        right, up = (second, first) if case.record.indexing == "ij" else (first, second)
        turned = np.diag([right, up, 1.0, 1.0])
    return turned @ np.diag([*_steps(_turned_shape(case)), 1])


def colour_image(case: OpenedCase) -> bytes:
    """The three channels of a colour image as one NIfTI file of RGB24; what is brightest is 255."""
    channels = np.stack([case.channel(index).astype(np.float32) for index in range(3)], axis=-1)
    low, high = float(channels.min()), float(channels.max())
    bytes_ = ((channels - min(low, 0)) * (255 / max(high - min(low, 0), 1e-12))).round().astype(np.uint8)
    return _nifti(case, drawn_grid(case, np.ascontiguousarray(bytes_).view(_COLOUR)[:, 0]))


def served_focus(case: OpenedCase, voxel: int) -> list[int]:
    """The place of a voxel, an index of ``[V]``, on the grid that is drawn."""
    place = [int(each) for each in np.unravel_index(voxel, case.shape, order="F")]
    if case.record.spatial_dims == 3:
        turned = [0, 0, 0]
        for (target, flip), each, size in zip(_orientation(case), place, case.shape, strict=True):
            turned[int(target)] = each if flip > 0 else size - 1 - each
    elif case.record.indexing == "ij":
        turned = [place[1], case.shape[0] - 1 - place[0], 0]
    else:
        turned = [*place, 0]
    return [each // step for each, step in zip(turned, _steps(_turned_shape(case)), strict=True)]


def export_file(case: OpenedCase, values: np.ndarray, maximum: float | None = None) -> tuple[bytes, str]:
    """
    A map ``[V]`` as a file on the image's grid, and the ending of its name: NIfTI with the header of the prediction,
    PNG where the image is one.

    Args:
        case: that is open.
        values: labels in uint8, or numbers in float32.
        maximum: of numbers. Default: these are labels.

    Raises:
        CaseError: when the file whose header is needed is gone.
    """
    grid = values.reshape(case.shape, order="F")
    if case.record.ending == "png":
        buffer = io.BytesIO()
        picture = picture_of_map(grid) if maximum is None else picture_of_shares(grid / maximum)
        picture.save(buffer, format="png")
        return buffer.getvalue(), "png"
    like = case.files.header()
    if (*like.shape, 1, 1, 1)[: len(case.shape)] != case.shape:
        raise CaseError(f"case {case.record.name}: its files have changed; reload the list.")
    header = like.header.copy()
    header.set_data_dtype(values.dtype)
    header.set_slope_inter(1, 0)
    image = nib.Nifti1Image(grid if grid.ndim == 3 else grid[..., None], like.affine, header)
    return gzip.compress(image.to_bytes(), compresslevel=1, mtime=0), "nii.gz"
