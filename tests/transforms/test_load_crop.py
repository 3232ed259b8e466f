# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset, MetaTensor
from monai.transforms import Compose, RandRotated, RandSpatialCropd

from monai_stochseg.data.lidc import crops_datalist
from monai_stochseg.data.lidc.crops import LIDCCrop
from monai_stochseg.data.lidc.crops_folder import write_crops
from monai_stochseg.transforms import LoadCropd


def folder(path: Path, unit: str = "HU", axes: int = 2) -> list[dict]:
    """Two crops whose columns go from the lowest value to the highest; reader r drew the first r columns."""
    low, high = (-1700, 1100) if unit == "HU" else (0, 1)
    image = np.broadcast_to(np.linspace(low, high, 5), (5,) * axes)
    label = np.broadcast_to(np.arange(5) < np.arange(4).reshape(4, *[1] * axes), (4, *(5,) * axes))
    spacing = (0.5, 0.7, 2.0)[:axes]
    write_crops([LIDCCrop(name, "p", image, label, np.arange(4) > 0, spacing, unit) for name in "ab"], path, {})
    return crops_datalist(path)


@pytest.mark.parametrize("axes", [2, 3])
def test_loads_image_and_label(tmp_path, axes) -> None:
    """In the window of -1000 to 400 HU, -1700 and 1100 are cut and -300 becomes 0."""
    case = folder(tmp_path / "crops", axes=axes)[1]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = LoadCropd()(case)
    image, label = loaded["image"], loaded["label"]
    assert image.shape == (1, *[5] * axes)
    assert image.dtype == torch.float32
    assert image.flatten()[:5].tolist() == [-1, -1, 0, 1, 1]
    assert label.shape == (4, *[5] * axes)
    assert label.dtype == torch.uint8
    assert label.flatten(1)[:, :5].tolist() == [[0] * 5, [1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0]]
    for value in (image, label):
        assert isinstance(value, MetaTensor)
        assert value.affine.diag().tolist() == [0.5, 0.7, 2.0 if axes == 3 else 1.0, 1.0]
        assert value.meta["filename_or_obj"] == "b.nii.gz"
    assert {key: loaded[key] for key in case} == case
    image.affine = torch.eye(4)
    assert label.affine[0, 0] == 0.5, "results must not share metadata"


def test_window(tmp_path) -> None:
    assert LoadCropd((-1700, 1100))(folder(tmp_path / "hu")[0])["image"][0, 0].tolist() == [-1, -0.5, 0, 0.5, 1]
    assert LoadCropd()(folder(tmp_path / "window", "window")[0])["image"][0, 0].tolist() == [-1, -0.5, 0, 0.5, 1]
    with pytest.raises(ValueError, match=r"window must be \(lowest, highest\) in HU, got \(400, -1000\)"):
        LoadCropd((400, -1000))


def test_fits_monai(tmp_path) -> None:
    keys = ("image", "label")
    transforms = [
        LoadCropd(),
        RandRotated(keys, range_x=0.5, prob=1, mode=("bilinear", "nearest")),
        RandSpatialCropd(keys, roi_size=4, random_size=False),
    ]
    (batch,) = DataLoader(Dataset(folder(tmp_path / "crops"), Compose(transforms)), batch_size=2)
    assert batch["image"].shape == (2, 1, 4, 4)
    assert batch["label"].shape == (2, 4, 4, 4)
    assert batch["patient"] == ["p", "p"]


def test_inference_needs_no_label(tmp_path) -> None:
    assert "label" not in LoadCropd(with_label=False)(folder(tmp_path / "crops")[0])
