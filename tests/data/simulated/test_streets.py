# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from monai_stochseg.data import (
    CITYSCAPES_CLASSES,
    CITYSCAPES_SWITCHES,
    cityscapes_datalist,
    simulated_cityscapes_folder,
)
from monai_stochseg.data.simulated import simulate_street
from monai_stochseg.transforms import LoadCityscapesd

SIZE = (64, 128)


@pytest.fixture(scope="module")
def scenes() -> list[tuple[np.ndarray, np.ndarray]]:
    return [simulate_street(SIZE, seed) for seed in range(60)]


def test_shapes_and_types(scenes) -> None:
    for picture, label in scenes:
        assert picture.shape == (*SIZE, 3)
        assert label.shape == SIZE
        assert picture.dtype == label.dtype == np.uint8
        assert set(np.unique(label).tolist()) <= {*range(19), 255}


def test_deterministic(scenes) -> None:
    picture, label = simulate_street(SIZE, 3)
    assert (picture == scenes[3][0]).all()
    assert (label == scenes[3][1]).all()
    assert (picture != scenes[4][0]).any()


def test_classes(scenes) -> None:
    """All 19 occur, and those that are switched in nearly every scene."""
    count = Counter(value for _, label in scenes for value in np.unique(label).tolist())
    assert set(count) == {*range(19), 255}
    assert all(count[source] >= 0.95 * len(scenes) for source in CITYSCAPES_SWITCHES)


def test_composition(scenes) -> None:
    """In the mean, sky is above and light, road below and grey, leaves are greenest, and neighbours alike."""
    labels = np.stack([label for _, label in scenes])
    pictures = np.stack([picture for picture, _ in scenes]).astype(float)
    rows = {name: np.argwhere(labels == number)[:, 1].mean() for name, number in CITYSCAPES_CLASSES.items()}
    means = {name: pictures[labels == number].mean(0) for name, number in CITYSCAPES_CLASSES.items()}
    assert rows["sky"] < rows["building"] < rows["car"] < rows["road"]
    assert rows["traffic light"] < rows["person"]
    assert means["sky"].mean() > 1.3 * means["road"].mean()
    assert np.ptp(means["road"]) < 15
    assert means["vegetation"].argmax() == 1
    shares = np.bincount(labels.flat, minlength=256) / labels.size
    assert 0.2 < shares[CITYSCAPES_CLASSES["road"]] < 0.45
    assert (labels[:, 1:] == labels[:, :-1]).mean() > 0.9


@pytest.mark.parametrize("size", [(32, 32), (128, 256), (96, 64)])
def test_other_sizes(size) -> None:
    picture, label = simulate_street(size, 0)
    assert picture.shape[:2] == label.shape == size
    assert len(np.unique(label)) > 5


def test_folder_in_the_layout_of_cityscapes(tmp_path) -> None:
    folder = simulated_cityscapes_folder(tmp_path / "new" / "streets", 10, SIZE, seed=4)
    cases = cityscapes_datalist(folder)
    assert Counter(case["split"] for case in cases) == {"train": 6, "validation": 2, "test": 2}
    assert {case["city"] for case in cases} == {f"simulated-{part}" for part in ("train", "validation", "test")}
    assert json.loads(Path(folder, "simulated.json").read_text())["parameters"]["seed"] == 4
    loaded = LoadCityscapesd(SIZE)(cases[0])
    with Image.open(cases[0]["image"]) as picture, Image.open(cases[0]["label"]) as label:
        assert (loaded["image"].permute(1, 2, 0).numpy() * 255 == np.asarray(picture)).all()
        assert (loaded["label"][0].numpy() == np.asarray(label)).all()
    fewer = cityscapes_datalist(simulated_cityscapes_folder(tmp_path / "fewer", 3, SIZE, seed=4))
    assert {case["split"] for case in fewer} == {"train", "validation", "test"}
    more = {case["patient"]: Path(case["image"]).read_bytes() for case in cases}
    for case in fewer:
        assert Path(case["image"]).read_bytes() == more[case["patient"]]


def test_reused_and_not_replaced(tmp_path) -> None:
    folder = Path(simulated_cityscapes_folder(tmp_path / "streets", 3, SIZE))
    before = (folder / "simulated.json").stat().st_mtime_ns
    assert simulated_cityscapes_folder(folder, 3, SIZE) == str(folder)
    assert (folder / "simulated.json").stat().st_mtime_ns == before
    with pytest.raises(
        FileExistsError, match=r"streets was simulated with .*; name another folder, or remove this one"
    ):
        simulated_cityscapes_folder(folder, 4, SIZE)
    assert len(cityscapes_datalist(folder)) == 3
    assert {path.name for path in tmp_path.iterdir()} <= {"streets", ".streets.lock"}


def test_refuses(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"size must be \(H, W\) of at least 32 pixels each, got \[16, 64\]"):
        simulate_street((16, 64))
    with pytest.raises(ValueError, match="num_images must be at least 3, one of each part, got 2"):
        simulated_cityscapes_folder(tmp_path / "streets", 2)
    (tmp_path / "leftImg8bit").mkdir()
    with pytest.raises(FileExistsError, match="exists and holds no simulated streets; name another folder"):
        simulated_cityscapes_folder(tmp_path, 3, SIZE)
