# SPDX-License-Identifier: Apache-2.0
"""Crops on disk: two arrays and a list, made once and read one crop at a time."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy

from monai_stochseg.data.case import CaseError
from monai_stochseg.data.folders import new_folder

from .crops import LIDCCrop

INDEX, IMAGES, READINGS = "crops.json", "image.npy", "readings.npy"
_DTYPES = {"HU": np.dtype("<i2"), "window": np.dtype("<f2")}


def write_crops(crops: Iterable[LIDCCrop], folder: str | os.PathLike, parameters: Mapping[str, Any]) -> None:
    """
    Write crops of one size to a folder, which appears whole or not at all and replaces an earlier one.

    ``image.npy`` is ``[N, *S]``, HU as int16 or a window as float16; ``readings.npy`` is uint8 ``[N, *S]``, whose bit r
    is the mask of reader r; ``crops.json`` has the ``parameters``, the ``unit``, the ``spacing`` and the list of the
    ``crops`` with their name, patient and readers who drew. Crops are written one by one: they need not fit in memory.

    Args:
        crops: the crops, of equal size, spacing and unit.
        folder: where to write.
        parameters: what the crops were made with, kept for :py:func:`read_parameters`.

    Raises:
        CaseError: when there is no crop, or one differs from the first in size, spacing or unit.
        FileExistsError: when the folder holds something else, which is left alone.
    """
    folder = Path(folder).expanduser().absolute()
    read_parameters(folder)  # refuses a folder of something else
    folder.parent.mkdir(parents=True, exist_ok=True)
    with new_folder(folder) as made:
        index = _write_arrays(crops, made) | {"parameters": dict(parameters)}
        Path(made, INDEX).write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")


def _write_arrays(crops: Iterable[LIDCCrop], folder: Path) -> dict[str, Any]:
    first: LIDCCrop | None = None
    entries: list[dict[str, Any]] = []
    with ExitStack() as stack:
        images, readings = (stack.enter_context(Path(folder, name).open("wb")) for name in (IMAGES, READINGS))
        for crop in crops:
            if first is None:
                first = crop
                _write_header(images, _DTYPES[crop.unit], (0, *crop.image.shape))
                _write_header(readings, np.dtype("u1"), (0, *crop.image.shape))
            kinds = [(each.image.shape, each.label.shape[1:], each.spacing, each.unit) for each in (first, crop)]
            if kinds[0] != kinds[1]:
                raise CaseError(
                    f"crop {crop.name} is {kinds[1]} in size, spacing and unit, but {first.name} {kinds[0]}."
                )
            image = crop.image.round().clip(-32768, 32767) if crop.unit == "HU" else crop.image
            images.write(image.astype(_DTYPES[crop.unit]).tobytes())
            readings.write(np.packbits(crop.label, axis=0, bitorder="little")[0].tobytes())
            entry = {"name": crop.name, "patient": crop.patient_id, "drawn": crop.drawn.astype(int).tolist()}
            entries.append(entry if crop.split is None else entry | {"split": crop.split})
        if first is None:
            raise CaseError("there is no crop to write.")
        for file, dtype in ((images, _DTYPES[first.unit]), (readings, np.dtype("u1"))):
            _write_header(file, dtype, (len(entries), *first.image.shape))
    return {"unit": first.unit, "spacing": list(first.spacing), "crops": entries}


def _write_header(file: BinaryIO, dtype: np.dtype, shape: tuple[int, ...]) -> None:
    """The header of a .npy file, in which NumPy leaves room for the first axis to grow."""
    file.seek(0)
    npy.write_array_header_1_0(file, {"descr": npy.dtype_to_descr(dtype), "fortran_order": False, "shape": shape})


def read_parameters(folder: str | os.PathLike) -> dict[str, Any] | None:
    """
    Read the parameters that a folder of crops was made with; None where the folder is empty or does not exist.

    They are empty where the folder holds the three files of :py:func:`write_crops` and nothing else, but
    ``crops.json`` is damaged.

    Raises:
        FileExistsError: when the folder holds something else.
    """
    folder = Path(folder)
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return None
    try:
        return dict(json.loads(Path(folder, INDEX).read_text(encoding="utf-8"))["parameters"])
    except (OSError, ValueError, KeyError, TypeError):
        if folder.is_dir() and {path.name for path in folder.iterdir()} == {INDEX, IMAGES, READINGS}:
            return {}
        raise FileExistsError(f"{folder} exists and holds no crops; name another folder.") from None


def crops_datalist(folder: str | os.PathLike) -> list[dict[str, Any]]:
    """
    List the crops of a folder, for MONAI's data sets and :py:class:`monai_stochseg.transforms.LoadCropd`.

    Args:
        folder: a folder of :py:func:`write_crops`.

    Returns:
        per crop ``name``, ``patient``, ``drawn`` (which readers drew the nodule, 4 numbers), ``folder`` and ``index``,
        ``unit``, ``spacing``, and ``split`` where the data came split.

    Raises:
        CaseError: when the folder holds no crops, or the arrays are not those of the list.
    """
    folder = Path(folder).expanduser().absolute()
    try:
        index = json.loads(Path(folder, INDEX).read_text(encoding="utf-8"))
        common = {"unit": index["unit"], "spacing": index["spacing"], "folder": str(folder)}
        crops = [crop | common | {"index": i} for i, crop in enumerate(index["crops"])]
    except (OSError, ValueError, KeyError, TypeError):
        raise CaseError(
            f"{folder} holds no crops ({INDEX}); make them with python -m monai_stochseg prepare, see docs/lidc.md."
        ) from None
    for name in (IMAGES, READINGS):
        _open(folder, name, len(crops))
    return crops


def read_crop(folder: str | os.PathLike, index: int) -> tuple[np.ndarray, np.ndarray]:
    """Image ``[*S]`` (float32) and readers' masks ``[4, *S]`` (uint8) of one crop of a folder."""
    image, readings = (_open(Path(folder), name)[index] for name in (IMAGES, READINGS))
    label = np.unpackbits(np.asarray(readings)[None], axis=0, count=4, bitorder="little")
    return np.asarray(image, dtype=np.float32), label


def _open(folder: Path, name: str, length: int | None = None) -> np.ndarray:
    try:
        array = np.load(folder / name, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise CaseError(f"{folder / name} cannot be read ({error}); remove the folder and make it again.") from None
    if length is not None and len(array) != length:
        raise CaseError(f"{folder / name} has {len(array)} crops, but {INDEX} {length}; make the folder again.")
    return array
