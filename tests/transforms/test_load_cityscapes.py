# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import DataLoader, MetaTensor
from monai.transforms import Compose, NormalizeIntensityd, RandSpatialCropd
from PIL import Image

from monai_stochseg.data import CaseDataset, CaseError
from monai_stochseg.data.cityscapes import LABEL_MAPS
from monai_stochseg.transforms import LoadCityscapesd

SIZE = (4, 8)  # H, W


def scene(folder: Path, kind: str = "labelTrainIds") -> dict:
    """An image whose left half is red and whose last row is blue, and a label with a class a row, void on the right."""
    pixels = np.zeros((*SIZE, 3), np.uint8)
    pixels[:, :4, 0] = 255
    pixels[-1] = (0, 0, 51)
    values = np.repeat(np.arange(4, dtype=np.uint8)[:, None], 8, 1)
    values[:, 7] = 255
    if kind == "labelIds":
        values = np.array([7, 8, 11, 12] + [0] * 252, np.uint8)[values]
    Image.fromarray(pixels).save(folder / "image.png")
    Image.fromarray(values).save(folder / "label.png")
    files = {key: str(folder / f"{key}.png") for key in ("image", "label")}
    return {"patient": "ulm_000000_000019", **files, "label_map": dict(LABEL_MAPS[kind])}


@pytest.mark.parametrize("kind", ["labelTrainIds", "labelIds"])
def test_axes_range_and_train_ids(tmp_path, kind) -> None:
    loaded = LoadCityscapesd(SIZE)(scene(tmp_path, kind))
    image, label = loaded["image"], loaded["label"]
    assert image.shape == (3, *SIZE)
    assert image.dtype == torch.float32
    assert image[0, 0].tolist() == [1] * 4 + [0] * 4
    assert image[:, -1, 0].tolist() == pytest.approx([0, 0, 0.2])
    assert label.shape == (1, *SIZE)
    assert label.dtype == torch.uint8
    assert label[0, :, 0].tolist() == [0, 1, 2, 3]
    assert label[0, :, 7].tolist() == [255] * 4
    for value in (image, label):
        assert isinstance(value, MetaTensor)
        assert value.meta["filename_or_obj"] == "ulm_000000_000019.png"
    assert set(loaded) == {"patient", "image", "label"}


def test_smaller(tmp_path) -> None:
    case = scene(tmp_path)
    ramp = np.linspace(0, 255, 64)[None, :, None]
    Image.fromarray(np.broadcast_to(ramp, (32, 64, 3)).astype(np.uint8)).save(case["image"])
    Image.fromarray((np.arange(64) // 16 + np.zeros((32, 1))).astype(np.uint8)).save(case["label"])
    loaded = LoadCityscapesd((2, 4))(case)
    assert loaded["image"][0, 0].tolist() == pytest.approx([0.13, 0.37, 0.62, 0.87], abs=0.02)
    assert loaded["label"][0].tolist() == [[0, 1, 2, 3]] * 2


@pytest.mark.parametrize(("dtype", "scale"), [("uint8", 255), ("float16", 1), ("float32", 1), ("float64", 1)])
def test_predictions_become_channels(tmp_path, dtype, scale) -> None:
    prediction = np.zeros((19, 2, 4))
    prediction[3] = scale
    prediction[5, :, :2] = scale
    np.save(tmp_path / "prediction.npy", prediction.astype(dtype))
    case = scene(tmp_path) | {"prediction": str(tmp_path / "prediction.npy")}
    image = LoadCityscapesd(SIZE)(case)["image"]
    assert image.shape == (22, *SIZE)
    assert image.dtype == torch.float32
    assert (image[6] == 1).all()
    assert image[8, 0].tolist() == pytest.approx([1, 1, 1, 0.75, 0.25, 0, 0, 0])
    assert image[[3, 4, 5, 7]].abs().max() == 0


def test_inference_needs_no_label(tmp_path) -> None:
    case = scene(tmp_path)
    assert set(LoadCityscapesd(SIZE, with_label=False)(case)) == {"patient", "image"}
    del case["label"], case["label_map"]
    with pytest.raises(CaseError, match=r"ulm_000000_000019: there is no label to load; .* pass with_label=False"):
        LoadCityscapesd(SIZE)(case)


def test_fits_monai(tmp_path) -> None:
    keys = ("image", "label")
    transforms = [
        LoadCityscapesd(SIZE),
        NormalizeIntensityd("image", subtrahend=[0.5] * 3, divisor=[0.25] * 3, channel_wise=True),
        RandSpatialCropd(keys, roi_size=(2, 4), random_size=False),
    ]
    (batch,) = DataLoader(CaseDataset([scene(tmp_path)] * 2, Compose(transforms), progress=False), batch_size=2)
    assert batch["image"].shape == (2, 3, 2, 4)
    assert batch["label"].shape == (2, 1, 2, 4)


def test_refuses_what_does_not_fit(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"spatial_size must be \(H, W\), at least 1 each, got \[0, 4\]"):
        LoadCityscapesd((0, 4))
    case, load = scene(tmp_path), LoadCityscapesd(SIZE)
    grey = np.full(SIZE, 34, np.uint8)
    for pixels, message in (
        (grey, r"label.png has the label 34, which is not one of \[0, 1"),
        (np.stack([grey] * 3, -1), r"label.png has the shape \(4, 8, 3\) and type uint8, not 8 bit grey"),
        (grey[:2], r"label.png has \(8, 2\) pixels, but .*image.png has \(8, 4\)"),
    ):
        Image.fromarray(pixels).save(case["label"])
        with pytest.raises(CaseError, match=f"scene ulm_000000_000019: .*{message}"):
            load(case)
    scene(tmp_path)
    for values, message in (
        (
            np.zeros((2, 4)),
            r"must be \[K, h, w\] of floats or uint8, or \[h, w\] of integer train ids, got \(2, 4\) of float64",
        ),
        (
            np.zeros((2, 2, 4), int),
            r"must be \[K, h, w\] of floats or uint8, or \[h, w\] of integer train ids, got \(2, 2, 4\) of int64",
        ),
        (np.full((2, 2, 4), np.nan), "has values that are NaN or infinite"),
    ):
        np.save(tmp_path / "prediction.npy", values)
        with pytest.raises(CaseError, match=f"prediction.npy {message}"):
            load(case | {"prediction": str(tmp_path / "prediction.npy")})


@pytest.mark.parametrize("key", ["image", "label", "prediction"])
@pytest.mark.parametrize("kept", [0, 3, 45])
def test_refuses_damaged_files(tmp_path, key, kept) -> None:
    case = scene(tmp_path) | {"prediction": str(tmp_path / "prediction.npy")}
    np.save(case["prediction"], np.zeros((19, 2, 4)))
    file = Path(case[key])
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(CaseError, match=rf"scene ulm_000000_000019: .*{file.name} cannot be read"):
        LoadCityscapesd(SIZE)(case)


def test_a_flipped_bit_is_seen(tmp_path) -> None:
    """Of a checksum: every pixel is as it was."""
    case = scene(tmp_path)
    file = Path(case["label"])
    content = bytearray(file.read_bytes())
    content[content.rindex(b"IEND") - 8] ^= 1
    file.write_bytes(content)
    with pytest.raises(CaseError, match=rf"^scene .*: {file} cannot be read \(.*checksum"):
        LoadCityscapesd(SIZE)(case)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
def test_a_label_map_as_prediction_is_one_hot(tmp_path, dtype) -> None:
    """Half of each pixel of the left is class 18, the other half void; the right is class 0."""
    train_ids = np.zeros((4, 8), dtype)
    train_ids[:, :4] = np.tile([18, 255], 2)
    np.save(tmp_path / "prediction.npy", train_ids)
    image = LoadCityscapesd((2, 4))({**scene(tmp_path), "prediction": str(tmp_path / "prediction.npy")})["image"]
    assert image.shape == (3 + 19, 2, 4)
    assert image[3].tolist() == [[0, 0, 1, 1]] * 2
    assert image[3 + 18].tolist() == [[0.5, 0.5, 0, 0]] * 2
    assert image[4 : 3 + 18].abs().max() == 0
    np.save(tmp_path / "prediction.npy", np.full((4, 8), 19, dtype))
    with pytest.raises(CaseError, match="has the label 19, but a label map holds train ids, 0 to 18, or 255"):
        LoadCityscapesd((2, 4))({**scene(tmp_path), "prediction": str(tmp_path / "prediction.npy")})
