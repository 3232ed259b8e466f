# SPDX-License-Identifier: Apache-2.0
"""A folder of predictions: which cases it has, and the files of one of them."""

from __future__ import annotations

import math
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from PIL import Image

from monai_stochseg.data import CaseError
from monai_stochseg.data.prediction_record import PREDICTION_SUFFIX, PredictionRecord

__all__ = ["CaseFiles", "Maps", "PredictionFolder"]

# What nibabel, zlib and Pillow raise of a damaged file; SyntaxError is Pillow's for a broken chunk.
_UNREADABLE = (
    *(OSError, EOFError, ValueError, SyntaxError, zlib.error),
    *(ImageFileError, HeaderDataError, Image.DecompressionBombError, MemoryError),
)

_LARGEST_RATIO = 1100  # of the bytes in a gzip file to its size; zlib's own bound is 1032

_T = TypeVar("_T")


class Maps(NamedTuple):
    """Some maps of one grid: ``values`` ``[N, V]``, the voxels with the first axis fastest; ``shape`` is ``[*S]``."""

    values: np.ndarray
    shape: tuple[int, ...]


class CaseFiles:
    """
    The files of one case's prediction, each read when it is asked for. A file that is a link out of the folder is
    refused.

    Args:
        folder: of the predictions.
        name: of the case.

    Raises:
        CaseError: when there is no such case, or its record cannot be used.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder.resolve()
        self.name = name
        record = self._path(f"{name}{PREDICTION_SUFFIX}")
        if record is None:
            raise CaseError(f"case {name} is not there any more; reload the list.")
        self.record = PredictionRecord.read(record)
        if self.record.name != name:
            raise CaseError(f"{record.name} is the record of another case.")

    def has(self, postfix: str) -> bool:
        """Whether there is a file ``<name>_<postfix>`` of the prediction."""
        return self._path(f"{self.name}_{postfix}.{self.record.ending}") is not None

    def maps(self, postfix: str, number: int = 1, ending: str | None = None) -> Maps:
        """
        Read the maps of one file.

        Args:
            postfix: of the file.
            number: of the maps that it must hold.
            ending: of the file. Default: that of the predictions.
        """
        ending = ending or self.record.ending
        path = self._existing(f"{self.name}_{postfix}.{ending}")
        if ending == "png":
            values = np.asarray(self._read(path, lambda: np.asarray(Image.open(path))))
            return Maps(values.reshape(1, -1, order="F"), values.shape)
        image = self._load(path)
        shape = self._grid(path, image.shape, number)
        values = self._read(path, lambda: np.asanyarray(image.dataobj))
        return Maps(values.reshape(-1, number, order="F").T, shape)

    def channel(self, postfix: str, index: int, number: int) -> Maps:
        """One of the ``number`` maps of a NIfTI file, such as a channel of the image."""
        path = self._existing(f"{self.name}_{postfix}.{self.record.nifti_ending}")
        image = self._load(path)
        shape = self._grid(path, image.shape, number)
        whole = number == 1 and image.ndim < 4
        values = self._read(path, lambda: np.asanyarray(image.dataobj if whole else image.dataobj[..., index]))
        return Maps(values.reshape(1, -1, order="F"), shape)

    def header(self) -> nib.Nifti1Image:
        """The NIfTI file of the single answer or of the samples, whose header has the geometry."""
        for postfix in ("mode", "samples", "samples_0", "image"):
            path = self._path(f"{self.name}_{postfix}.{self.record.nifti_ending}")
            if path is not None:
                return self._load(path)
        raise CaseError(f"case {self.name} has no NIfTI file any more; reload the list.")

    def _load(self, path: Path) -> nib.Nifti1Image:
        image = self._read(path, lambda: nib.load(path))
        voxels = math.prod(image.shape) * image.get_data_dtype().itemsize
        if min(image.shape, default=0) < 1 or voxels > _LARGEST_RATIO * path.stat().st_size + 4096:
            raise CaseError(f"{path.name} has the shape {image.shape}, which a file of its size cannot hold.")
        return image

    def _grid(self, path: Path, found: tuple[int, ...], number: int) -> tuple[int, ...]:
        """The spatial shape of a file of ``number`` maps: ``[*S]`` or ``[*S, N]``, in 2D ``[H, W, 1, N]``."""
        dims = self.record.spatial_dims
        found = (*found, *(1,) * (dims - len(found)))  # MONAI's writer drops axes of one voxel at the end
        shape, rest = found[:dims], found[dims:]
        if int(np.prod(rest, dtype=np.int64)) != number:
            raise CaseError(f"{path.name} has the shape {found}, which does not hold {number} maps of {dims} axes.")
        return tuple(int(size) for size in shape)

    def _existing(self, filename: str) -> Path:
        path = self._path(filename)
        if path is None:
            raise CaseError(f"{filename} is not there any more; reload the list.")
        return path

    def _path(self, filename: str) -> Path | None:
        """The file, None where there is none; refuses one outside the folder."""
        path = self.folder / filename
        if not os.path.lexists(path):
            return None
        real = path.resolve()
        if path.parent != self.folder or not real.is_relative_to(self.folder):
            raise CaseError(f"{filename} leads out of the folder of the predictions, and is not read.")
        return path if real.is_file() else None

    @staticmethod
    def _read(path: Path, read: Callable[[], _T]) -> _T:
        try:
            return read()
        except _UNREADABLE as error:
            raise CaseError(f"{path.name} cannot be read ({error}).") from None


class PredictionFolder:
    """
    The cases of a folder that the inference of this package wrote.

    Args:
        folder: the folder.

    Raises:
        CaseError: when there is no such folder.
    """

    def __init__(self, folder: str | os.PathLike) -> None:
        self.path = Path(folder).expanduser()
        if not self.path.is_dir():
            raise CaseError(f"prediction_dir: {self.path} is no folder; run an inference first.")

    @property
    def title(self) -> str:
        """The folder's own name and those above it that say which."""
        return "/".join(self.path.resolve().parts[-3:])

    def names(self) -> list[str]:
        """The names of the cases, sorted."""
        found = (file.name.removesuffix(PREDICTION_SUFFIX) for file in self.path.glob(f"*{PREDICTION_SUFFIX}"))
        return sorted(name for name in found if name.isprintable())  # others are no UTF-8, which JSON is

    def message(self) -> str | None:
        """Why there is no case, or None."""
        if self.names():
            return None
        if any(self.path.glob("*_mode.nii*")) or any(self.path.glob("*_mode.png")):
            return (
                "These predictions have no record beside them: an earlier version of monai_stochseg wrote them. Run "
                "the inference again."
            )
        return f"There is no prediction in {self.title}. Run an inference, then reload the list."

    def files(self, name: str) -> CaseFiles:
        """The files of a case."""
        return CaseFiles(self.path, name)
