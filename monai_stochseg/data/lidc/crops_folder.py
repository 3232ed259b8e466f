# SPDX-License-Identifier: Apache-2.0
"""Crops on disk: two arrays and a list, made once and read one crop at a time."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy

from monai_stochseg.data.case import CaseError
from monai_stochseg.data.folders import new_folder
from monai_stochseg.data.splits import SPLITS

from .crops import LIDCCrop
from .nodules import NUM_RATERS

MAX_READERS = 8  # bits of a byte
INDEX, IMAGES, READINGS = "crops.json", "image.npy", "readings.npy"
_DTYPES = {"HU": np.dtype("<i2"), "window": np.dtype("<f2")}


def write_crops(crops: Iterable[LIDCCrop], folder: str | os.PathLike, parameters: Mapping[str, Any]) -> None:
    """
    Write crops of one size to a folder, which appears whole or not at all and replaces an earlier one.

    ``image.npy`` is ``[N, *S]``, HU as int16 or a window as float16; ``readings.npy`` is uint8 ``[N, *S]``, whose bit r
    is the mask of reader r, of at most 8; ``crops.json`` has the ``parameters``, the ``unit``, the ``spacing`` and the
    list of the ``crops`` with their name, patient and readers who drew. Crops are written one by one: they need not fit
    in memory.

    Args:
        crops: the crops, of equal size, number of readers, spacing and unit.
        folder: where to write.
        parameters: what the crops were made with, kept for :py:func:`read_parameters`.

    Raises:
        CaseError: when there is no crop, one differs from the first in size, number of readers, spacing or unit, or
            an image is not finite, a mask holds something other than 0 and 1, or there are more than 8 readers.
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
            kinds = [(each.image.shape, each.label.shape, each.spacing, each.unit) for each in (first, crop)]
            if kinds[0] != kinds[1]:
                raise CaseError(
                    f"crop {crop.name} is {kinds[1]} in size, readers, spacing and unit, but {first.name} {kinds[0]}."
                )
            _check_crop(crop)
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


def _check_crop(crop: LIDCCrop) -> None:
    """Refuse what the files cannot hold, which would be stored as something else."""
    if crop.label.shape[1:] != crop.image.shape or not 1 <= len(crop.label) <= MAX_READERS:
        raise CaseError(
            f"crop {crop.name}: label must be [R, *S] with the image's S and 1 to {MAX_READERS} readers, got "
            f"{crop.label.shape} for an image of {crop.image.shape}; write further readers to a folder of their own."
        )
    if len(crop.drawn) != len(crop.label) or not np.isin(crop.label, (0, 1)).all():
        raise CaseError(
            f"crop {crop.name}: masks must hold 0 and 1, and drawn one value per reader, got "
            f"{np.unique(crop.label)[:5].tolist()} and {len(crop.drawn)} of {len(crop.label)} readers."
        )
    if not np.isfinite(crop.image).all():
        raise CaseError(f"crop {crop.name}: its image holds values that are NaN or infinite.")


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
        per crop ``name``, ``patient``, ``drawn`` (which readers drew the nodule, one number each), ``folder`` and
        ``index``, ``unit``, ``spacing``, and ``split`` where the data came split.

    Raises:
        CaseError: when the folder holds no crops, ``crops.json`` has a wrong entry, or the arrays are not those of the
            list.
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
    _check_index(folder, crops)
    images, readings = (_open(folder, name) for name in (IMAGES, READINGS))
    for name, array, dtype in ((IMAGES, images, _DTYPES[index["unit"]]), (READINGS, readings, np.dtype("u1"))):
        if len(array) != len(crops):
            raise CaseError(f"{folder / name} has {len(array)} crops, but {INDEX} {len(crops)}; make the folder again.")
        if array.dtype != dtype or array.ndim != 1 + len(index["spacing"]) or array.shape != images.shape:
            raise CaseError(
                f"{folder / name} has the shape {array.shape} and type {array.dtype}, but should be {dtype} with "
                f"{len(index['spacing'])} axes of space, of the size of {IMAGES}; make the folder again."
            )
    return crops


def _check_index(folder: Path, crops: Sequence[Mapping[str, Any]]) -> None:
    """Check the entries of a folder's list."""
    file = folder / INDEX
    if not crops:
        raise CaseError(f"{file} lists no crop; make the folder again.")
    unit, spacing = crops[0]["unit"], crops[0]["spacing"]
    if not isinstance(unit, str) or unit not in _DTYPES:
        raise CaseError(f"{file}: unit must be one of {list(_DTYPES)}, got {unit!r}; make the folder again.")
    if not (isinstance(spacing, list) and len(spacing) in (2, 3) and all(map(_is_positive, spacing))):
        raise CaseError(f"{file}: spacing must be 2 or 3 positive numbers in mm, got {spacing}; make the folder again.")
    num_readers = len(crops[0].get("drawn") or ())
    for i, crop in enumerate(crops):
        drawn = crop.get("drawn")
        if not all(isinstance(crop.get(key), str) and crop[key] for key in ("name", "patient")):
            raise CaseError(f"{file}: crop {i} must have a name and a patient; make the folder again.")
        if not (isinstance(drawn, list) and drawn and all(value in (0, 1) for value in drawn)):
            raise CaseError(f"{file}: crop {crop['name']}: drawn must be 0 or 1 for each reader, got {drawn}.")
        if len(drawn) != num_readers or num_readers > MAX_READERS:
            raise CaseError(
                f"{file}: crop {crop['name']} has {len(drawn)} readers, but {crops[0]['name']} {num_readers}; all "
                f"crops of a folder have as many, at most {MAX_READERS}."
            )
        if crop.get("split", "train") not in SPLITS:
            raise CaseError(f"{file}: crop {crop['name']}: split must be one of {SPLITS}, got {crop['split']!r}.")


def _is_positive(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < math.inf


def read_crop(folder: str | os.PathLike, index: int, num_readers: int = NUM_RATERS) -> tuple[np.ndarray, np.ndarray]:
    """
    Read one crop of a folder.

    Args:
        folder: of :py:func:`write_crops`.
        index: of the crop.
        num_readers: of the folder, the length of ``drawn`` of each of its crops.

    Returns:
        image ``[*S]`` (float32) and readers' masks ``[R, *S]`` (uint8).

    Raises:
        CaseError: when a file cannot be read, the image is not finite, or a reader drew who is none of
            ``num_readers``.
    """
    image, readings = (np.asarray(_open(Path(folder), name)[index]) for name in (IMAGES, READINGS))
    if not np.isfinite(image).all():
        raise CaseError(f"crop {index} of {Path(folder, IMAGES)} holds values that are NaN or infinite.")
    if (readings >> num_readers).any():
        raise CaseError(
            f"crop {index} of {Path(folder, READINGS)} has the mask of a reader beyond the {num_readers} that {INDEX} "
            "counts; make the folder again."
        )
    label = np.unpackbits(readings[None], axis=0, count=num_readers, bitorder="little")
    return image.astype(np.float32), label


def _open(folder: Path, name: str) -> np.ndarray:
    try:
        return np.load(folder / name, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise CaseError(f"{folder / name} cannot be read ({error}); remove the folder and make it again.") from None
