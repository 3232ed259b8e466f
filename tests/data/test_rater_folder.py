# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from own_folders import decathlon_folder, nifti_folder, nnunet_folder, raster_folder

from monai_stochseg.data import CaseError, RaterLayout, rater_datalist

RASTERS = RaterLayout("images/{case}.png", "readers/{rater}/{case}.png", known_raters=True)


def test_each_case_has_its_own_raters(tmp_path) -> None:
    cases = rater_datalist(nifti_folder(tmp_path, 3), RaterLayout())
    assert [case["patient"] for case in cases] == ["case00", "case01", "case02"]
    assert [case["raters"] for case in cases] == [["1", "2", "3"], ["1", "2", "3", "4"], ["1", "2", "3"]]
    assert [Path(files[0]).name for files in cases[0]["label"]] == [f"annotation_{n}.nii.gz" for n in (1, 2, 3)]


def test_rater_10_comes_behind_rater_9(tmp_path) -> None:
    cases = rater_datalist(nifti_folder(tmp_path, 1, (11,)), RaterLayout())
    assert cases[0]["raters"] == [str(number) for number in range(1, 12)]


def test_modalities_in_the_order_of_the_layout(tmp_path) -> None:
    layout = RaterLayout(
        "imagesTr/{case}_{modality}.nii*", "labelsTr_{rater}/{case}.nii*", modalities={"ADC": "0001", "T2": "0000"}
    )
    case = rater_datalist(nnunet_folder(tmp_path, 1), layout)[0]
    assert [Path(file).name for file in case["image"]] == ["my_0_0001.nii.gz", "my_0_0000.nii.gz"]
    assert case["raters"] == ["ada", "bob"]


def test_a_datalist_of_the_decathlon(tmp_path) -> None:
    cases = rater_datalist(decathlon_folder(tmp_path, 2), RaterLayout(datalist="dataset.json"))
    assert [(case["patient"], len(case["label"])) for case in cases] == [("a_0", 2), ("a_1", 3)]


def test_folders_of_parts_and_persons(tmp_path) -> None:
    source = raster_folder(tmp_path / "flat", 2)
    for part, case in {"train": "p0", "test": "p1"}.items():
        target = tmp_path / "parts" / part / f"person{case}"
        target.mkdir(parents=True)
        shutil.copy(source / "images" / f"{case}.png", target / f"{case}_image.png")
        shutil.copy(source / "readers" / "Ada" / f"{case}.png", target / f"{case}_Ada.png")
    layout = RaterLayout("{subject}/{case}_image.png", "{subject}/{case}_{rater}.png")
    with pytest.raises(CaseError):  # the image fits the label's pattern too: whose file it is must be plain
        rater_datalist(tmp_path / "parts", RaterLayout("{case}/{subject}_image.png", "{subject}/{case}_{rater}.png"))
    cases = rater_datalist(tmp_path / "parts", layout, require_label=False)
    assert [(case["subject"], case["split"]) for case in cases] == [("personp0", "train"), ("personp1", "test")]


def test_images_without_masks_are_listed_for_inference(tmp_path) -> None:
    root = raster_folder(tmp_path, 2)
    shutil.rmtree(root / "readers")
    assert "label" not in rater_datalist(root, RASTERS, require_label=False)[0]
    with pytest.raises(CaseError, match=r"case p0: no rater, no file readers/\{rater\}/\{case\}\.png"):
        rater_datalist(root, RASTERS)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda root: (root / "images" / "p0.png").unlink(), r"case p0: .*Ada/p0\.png is there, but its image"),
        (lambda root: shutil.rmtree(root / "images"), "no image found"),
        (lambda root: shutil.rmtree(root), "is no folder"),
        (
            lambda root: shutil.copytree(root / "images", root / "more" / "images"),
            r"case p0: found twice, .*images/p0\.png and .*more/images/p0\.png",
        ),
    ],
)
def test_a_folder_that_cannot_be_used(tmp_path, damage, message: str) -> None:
    root = raster_folder(tmp_path / "folder", 2)
    damage(root)
    with pytest.raises(CaseError, match=message):
        rater_datalist(root, RASTERS)


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        ({"image": "images/a.png"}, r"image 'images/a\.png' must name \{case\}"),
        ({"label": "{case}/{modality}.png"}, r"label .* must not name \{modality\}"),
        ({"modalities": {"t1": "t1"}}, r"modalities belong to an image with \{modality\}"),
        ({"structures": ["a"]}, r"structures belong to a label with \{structure\}"),
        ({"label": "{case}/{structure}_{rater}.png", "structures": ["a"], "combinations": [[], [1]]}, "indices"),
        ({"label": "{case}/{structure}_{rater}.png", "structures": ["a"], "label_map": {0: 0}}, "combinations"),
    ],
)
def test_a_layout_that_contradicts_itself(layout: dict, message: str) -> None:
    with pytest.raises(CaseError, match=message):
        RaterLayout(**layout)


def test_the_readings_of_a_real_set(real_data) -> None:
    root = real_data / "bubil" / "bubil2a_rabbit_smooth_muscle"
    if not root.is_dir():
        pytest.skip(f"no {root}")
    cases = rater_datalist(root, RASTERS)
    assert len(cases) == 34
    assert np.unique([len(case["raters"]) for case in cases]).tolist() == [10]
