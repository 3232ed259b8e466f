# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from own_folders import (
    brats_folder,
    decathlon_folder,
    nifti_folder,
    nnunet_folder,
    raster_folder,
    structures_folder,
)
from PIL import Image

from monai_stochseg.data import CaseError
from monai_stochseg.planning import plan

FOLDERS = {
    "nifti": (nifti_folder, {}),
    "raster": (raster_folder, {}),
    "structures": (structures_folder, {}),
    "decathlon": (decathlon_folder, {}),
    "nnunet": (nnunet_folder, {}),
    "nnunet_one": (nnunet_folder, {"raters": ("ada",)}),
    "brats2024": (brats_folder, {}),
    "brats_toolkit": (brats_folder, {"flat": True}),
}
# dimensions, channels, classes and regions of each
FOUND = {
    "nifti": (3, ["image"], ["background", "class_1", "class_2"], None),
    "raster": (2, ["red", "green", "blue"], ["background", "structure"], None),
    "structures": (3, ["image"], ["background", "01", "01 and 02"], {"01": [1, 2], "02": [2]}),
    "decathlon": (3, ["image"], ["background", "rim", "core"], None),
    "nnunet": (3, ["T2", "ADC"], ["background", "rim", "core"], None),
    "nnunet_one": (3, ["T2", "ADC"], ["background", "rim", "core"], None),
    "brats2024": (
        *(3, ["t1c", "t1n", "t2f", "t2w"], ["background", "NET", "OD", "ET", "RC"]),
        {"WT": [1, 2, 3], "TC": [1, 3], "ET": [3], "RC": [4]},
    ),
}
FOUND["brats_toolkit"] = FOUND["brats2024"]


@pytest.fixture(autouse=True)
def _quick(monkeypatch) -> None:
    monkeypatch.setattr("monai_stochseg.planning.choose.step_seconds", lambda *args: 0.1)


def planned(root: Path, **options) -> dict:
    plan(str(root), progress=False, **options)
    return json.loads((root / "plan.json").read_text())


@pytest.mark.parametrize("name", FOLDERS)
def test_each_layout_is_recognised(tmp_path, name: str) -> None:
    make, options = FOLDERS[name]
    content = planned(make(tmp_path, **options))
    found = (content["spatial_dims"], content["channel_names"], content["class_names"], content["regions"])
    assert found == FOUND[name]
    assert len(content["plan"]["cases"]) == 6


def test_the_table_says_what_is_there(tmp_path) -> None:
    text = plan(str(raster_folder(tmp_path)), progress=False)
    assert "raters of a case:         2 to 3 (3 names in all)" in text
    assert "size:                     24 to 32 x 20 pixels" in text
    assert "WARNING: only 6 persons" in text
    assert text.endswith(f"Wrote {tmp_path / 'plan.json'}.")


@pytest.mark.parametrize(("seconds", "channels", "patches"), [(0.1, 16, 2), (0.7, 16, 1), (1.4, 8, 1), (100.0, 8, 1)])
def test_a_slow_machine_gets_fewer_patches_then_fewer_channels(
    tmp_path, monkeypatch, seconds, channels, patches
) -> None:
    """10 minutes, of which a third; 400 steps of 0.5 s fit. Two patches and 16 channels take ``seconds``."""

    def step(patch_size, channels, in_channels, batch_size) -> float:
        return seconds * (batch_size / 8) * (channels[0] / 16)

    monkeypatch.setattr("monai_stochseg.planning.choose.step_seconds", step)
    made = planned(raster_folder(tmp_path))
    assert made["channels"][0] == channels
    assert made["patches_per_image"] == patches


def test_agreement_by_hand(tmp_path) -> None:
    """Two raters, 4 and 6 pixels with 3 in common: Dice 0.6, IoU 3/7; the two other cases agree."""
    masks = {"a": ([0, 1, 2, 3], [1, 2, 3, 4, 5, 6]), "b": ([0], [0]), "c": ([0, 1], [0, 1])}
    for case, readings in masks.items():
        for folder in ("images", "readers/1", "readers/2"):
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(tmp_path / "images" / f"{case}.png")
        for rater, pixels in enumerate(readings, 1):
            mask = np.zeros(64, np.uint8)
            mask[pixels] = 1
            Image.fromarray(mask.reshape(8, 8)).save(tmp_path / "readers" / str(rater) / f"{case}.png")
    found = planned(tmp_path)["plan"]["agreement"]
    structure = found["structures"]["structure"]
    assert structure["dice"] == pytest.approx((0.6 + 1 + 1) / 3)
    assert structure["iou"] == pytest.approx((3 / 7 + 1 + 1) / 3)
    assert structure["volume"] == pytest.approx((5 + 1 + 2) / 3)
    assert structure["relative_spread"] == pytest.approx((1 / 5 + 0 + 0) / 3)
    assert found["diversity"] == pytest.approx((4 / 7 / 2 + 0 + 0) / 3)  # half of the four pairs are with oneself
    assert next(iter(found["least_agreement"].items())) == ("a", 0.6)
    assert "raters" not in found  # numbers are no persons


def test_who_differs_from_the_rest_is_named(tmp_path) -> None:
    root = raster_folder(tmp_path, 6)
    for number in (1, 3, 5):
        Image.fromarray(np.zeros((24 + 4 * (number % 3), 20), np.uint8)).save(
            root / "readers" / "Cid" / f"p{number}.png"
        )
    content = planned(root)
    assert next(iter(content["plan"]["agreement"]["raters"].items())) == ("Cid", 0.0)
    assert sum("rater Cid overlaps with hardly anybody" in line for line in content["plan"]["warnings"]) == 3


def test_ct_rgb_and_other_intensities(tmp_path) -> None:
    assert planned(raster_folder(tmp_path / "rgb"))["window"] == [0.0, 255.0]
    assert planned(raster_folder(tmp_path / "grey", colour=False))["normalization"] == "zscore"
    root = nnunet_folder(tmp_path / "ct", raters=("ada",))
    for file in root.glob("imagesTr/*_0001.nii.gz"):
        file.unlink()
    (root / "dataset.json").write_text(json.dumps({"channel_names": {"0": "CT"}, "labels": {"background": 0}}))
    content = planned(root)
    assert content["channel_names"] == ["CT"]
    assert content["normalization"] == "window"


def test_spacing_is_the_median_where_it_differs(tmp_path) -> None:
    assert planned(nifti_folder(tmp_path / "a"))["spacing"] == [1.05, 1.0, 2.0]
    assert planned(structures_folder(tmp_path / "b"))["spacing"] is None


def test_a_second_plan_looks_at_changed_cases_only(tmp_path, monkeypatch) -> None:
    root = raster_folder(tmp_path)
    first = planned(root)
    looked = []
    from monai_stochseg.planning import survey as module

    real = module.look_at
    monkeypatch.setattr(module, "look_at", lambda case, layout: looked.append(case["patient"]) or real(case, layout))
    assert planned(root) == first
    assert looked == []
    file = root / "readers" / "Ada" / "p2.png"
    Image.fromarray(np.zeros((32, 20), np.uint8)).save(file)
    assert planned(root) != first
    assert looked == ["p2"]


def test_patterns_and_names_of_the_user(tmp_path) -> None:
    root = raster_folder(tmp_path)
    (root / "readers").rename(root / "drawn by")
    with pytest.raises(CaseError, match="has none of the known layouts"):
        planned(root)
    patterns = {"image": "images/{case}.png", "label": "drawn by/{rater}/{case}.png"}
    content = planned(root, **patterns, class_names=["background", "cell"], known_raters=False)
    assert content["class_names"] == ["background", "cell"]
    assert "known_raters" not in content["layout"] or not content["layout"]["known_raters"]


def _one_case(root: Path) -> None:
    for folder in ("images", "readers/Ada", "readers/Bob", "readers/Cid"):
        for file in (root / folder).glob("p[1-5].png"):
            file.unlink()


def _grey_one(root: Path) -> None:
    Image.fromarray(np.zeros((24, 20), np.uint8)).save(root / "images" / "p3.png")


def _many_values(root: Path) -> None:
    Image.fromarray(np.arange(480, dtype=np.uint16).astype(np.uint8).reshape(24, 20)).save(root / "readers/Ada/p0.png")


def _nothing_drawn(root: Path) -> None:
    for file in root.glob("readers/*/*.png"):
        Image.fromarray(np.zeros(np.asarray(Image.open(file)).shape, np.uint8)).save(file)


def _no_zero(root: Path) -> None:
    for file in root.glob("readers/*/*.png"):
        Image.fromarray(np.where(np.asarray(Image.open(file)) > 0, 2, 1).astype(np.uint8)).save(file)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda root: shutil.rmtree(root), "is no folder"),
        (lambda root: [shutil.rmtree(root / name) for name in ("images", "readers")], "is empty"),
        (_one_case, "has 1 persons; a split into train, validation and test needs three"),
        (_grey_one, "case p3: its image has 1 channels, those of most have 3"),
        (_many_values, r"case p0: .*Ada/p0\.png has 256 values, too many for classes"),
        (_nothing_drawn, "nothing but background"),
        (_no_zero, r"masks have the values \[1, 2\] and no 0"),
        (lambda root: (root / "dataset.json").write_text("{"), r"dataset\.json is no JSON"),
    ],
)
def test_a_folder_that_cannot_be_planned(tmp_path, damage, message: str) -> None:
    root = raster_folder(tmp_path / "mine")
    damage(root)
    with pytest.raises(CaseError, match=message):
        plan(str(root), progress=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image": "images/{case}.png"}, "image and label go together"),
        ({"image": "nothing/{case}.png", "label": "readers/{rater}/{case}.png"}, "no file fits the pattern 'nothing"),
        ({"class_names": ["background"]}, r"class_names: masks have the 2 values \[0, 255\]"),
    ],
)
def test_options_that_cannot_be(tmp_path, options: dict, message: str) -> None:
    with pytest.raises(CaseError, match=message):
        plan(str(raster_folder(tmp_path)), progress=False, **options)


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_that_cannot_be_written(tmp_path) -> None:
    root = raster_folder(tmp_path / "mine")
    root.chmod(0o500)
    with pytest.raises(CaseError, match="cannot be written; say where with --out"):
        plan(str(root), progress=False)


def test_real_readings_and_their_outliers(real_data, tmp_path) -> None:
    """Of BU-BIL's set 2a two readings are known to overlap with nobody."""
    root = real_data / "bubil" / "bubil2a_rabbit_smooth_muscle"
    if not root.is_dir():
        pytest.skip(f"no {root}")
    plan(str(root), out=str(tmp_path / "plan.json"), progress=False)
    lines = json.loads((tmp_path / "plan.json").read_text())["plan"]["warnings"]
    assert [line.split(":")[0] + line.split(":")[1] for line in lines] == [
        "case p10, structure rater Person2_Amira overlaps with hardly anybody.",
        "case p20, structure rater Person3_Amira overlaps with hardly anybody.",
    ]
