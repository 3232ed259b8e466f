# SPDX-License-Identifier: Apache-2.0
"""Small folders of images and raters' masks, in the layouts that users have."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
from PIL import Image


def _disc(size: tuple[int, ...], centre: tuple[float, ...], radius: float) -> np.ndarray:
    grid = np.indices(size)
    return sum((axis - place) ** 2 for axis, place in zip(grid, centre, strict=True)) < radius**2


def _save_nifti(array: np.ndarray, file: Path, spacing: tuple[float, ...] = (1.0, 1.0, 2.0)) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, np.diag([*spacing, 1.0])), file)


def _save_raster(array: np.ndarray, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(file)


def volume(seed: int, raters: int, size: tuple[int, int, int] = (20, 16, 12)) -> tuple[np.ndarray, list[np.ndarray]]:
    """An image ``[*S]`` float32 and its raters' classes 0 to 2, uint8: balls of several sizes."""
    rng = np.random.default_rng(seed)
    centre = tuple(n / 2 + rng.uniform(-1, 1) for n in size)
    image = _disc(size, centre, 5) + _disc(size, centre, 3) + rng.normal(0, 0.2, size)
    radii = 5 + rng.uniform(-1.5, 1.5, raters)
    return image.astype(np.float32), [
        (_disc(size, centre, r) + 1 * _disc(size, centre, r - 2)).astype("u1") for r in radii
    ]


def nifti_folder(root: Path, cases: int = 6, raters: tuple[int, ...] = (3, 4)) -> Path:
    """``case00/image.nii.gz`` and ``annotation_1.nii.gz`` and so on, of different numbers of raters."""
    for number in range(cases):
        image, masks = volume(number, raters[number % len(raters)])
        folder = root / f"case{number:02d}"
        spacing = (1.0 + 0.1 * (number % 2), 1.0, 2.0)
        _save_nifti(image, folder / "image.nii.gz", spacing)
        for rater, mask in enumerate(masks, 1):
            _save_nifti(mask, folder / f"annotation_{rater}.nii.gz", spacing)
    return root


def raster_folder(root: Path, cases: int = 6, colour: bool = True, ending: str = "png") -> Path:
    """``images/p0.png``, RGB or grey of several sizes, and ``readers/<name>/p0.png`` with 0 and 255; Cid saw half."""
    rng = np.random.default_rng(0)
    for number in range(cases):
        size = (24 + 4 * (number % 3), 20)
        centre = (size[0] / 2 + rng.uniform(-2, 2), size[1] / 2)
        image = (60 + 120 * _disc(size, centre, 6) + rng.integers(0, 20, size)).astype(np.uint8)
        _save_raster(np.stack([image] * 3, -1) if colour else image, root / "images" / f"p{number}.{ending}")
        for name in ("Ada", "Bob", *(["Cid"] * (number % 2))):
            mask = 255 * _disc(size, centre, 6 + rng.uniform(-1.5, 1.5))
            _save_raster(mask.astype(np.uint8), root / "readers" / name / f"p{number}.png")
    return root


def structures_folder(root: Path, cases: int = 6) -> Path:
    """As QUBIQ: a mask a structure and rater, of which the second lies within the first."""
    for number in range(cases):
        image, masks = volume(number, 3)
        folder = root / f"case{number:02d}"
        _save_nifti(image, folder / "image.nii.gz")
        for rater, mask in enumerate(masks, 1):
            for structure, inside in {"01": mask > 0, "02": mask > 1}.items():
                _save_nifti(inside.astype("u1"), folder / f"task{structure}_seg{rater:02d}.nii.gz")
    return root


def decathlon_folder(root: Path, cases: int = 6) -> Path:
    """A ``dataset.json`` whose ``label`` is a list."""
    entries = []
    for number in range(cases):
        image, masks = volume(number, 2 + number % 2)
        _save_nifti(image, root / "imagesTr" / f"a_{number}.nii.gz")
        labels = [f"./labelsTr/a_{number}_{rater}.nii.gz" for rater in range(len(masks))]
        for label, mask in zip(labels, masks, strict=True):
            _save_nifti(mask, root / label)
        entries.append({"image": f"./imagesTr/a_{number}.nii.gz", "label": labels})
    names = {"0": "background", "1": "rim", "2": "core"}
    (root / "dataset.json").write_text(json.dumps({"labels": names, "training": entries}), encoding="utf-8")
    return root


def nnunet_folder(root: Path, cases: int = 6, raters: tuple[str, ...] = ("ada", "bob")) -> Path:
    """nnU-Net's raw layout with two channels; several raters are ``labelsTr_<name>``."""
    for number in range(cases):
        image, masks = volume(number, len(raters))
        for channel in range(2):
            _save_nifti(image * (1 + channel), root / "imagesTr" / f"my_{number}_{channel:04d}.nii.gz")
        for rater, mask in zip(raters, masks, strict=True):
            folder = "labelsTr" if len(raters) == 1 else f"labelsTr_{rater}"
            _save_nifti(mask, root / folder / f"my_{number}.nii.gz")
    described = {"channel_names": {"0": "T2", "1": "ADC"}, "labels": {"background": 0, "rim": 1, "core": 2}}
    (root / "dataset.json").write_text(json.dumps(described), encoding="utf-8")
    return root


def brats_folder(root: Path, cases: int = 6, flat: bool = False) -> Path:
    """As BraTS 2024 with the resection cavity (4), or with the flat names of the toolkit."""
    for number in range(cases):
        image, masks = volume(number, 1)
        name = f"BraTS-GLI-{number:05d}-100"
        stem = "" if flat else f"{name}-"
        for modality in ("t1c", "t1n", "t2f", "t2w"):
            _save_nifti(image, root / name / f"{stem}{modality}.nii.gz")
        label = masks[0].copy()
        label[:4, :4, :4] = 3
        label[:2, :2, :2] = 4
        _save_nifti(label, root / name / f"{stem}seg.nii.gz")
    return root
