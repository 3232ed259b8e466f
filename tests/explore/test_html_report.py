# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import base64
import io
import json
import re

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from predictions import maps, write_raster, write_volume

from monai_stochseg.data import CaseError
from monai_stochseg.explore.prediction_folder import PredictionFolder
from monai_stochseg.explore.report import write_report

HOSTILE = "<script>alert(1)<!--"


def report(folder, tmp_path, **options) -> tuple[str, dict]:
    """The file's text, and its content."""
    path = write_report(PredictionFolder(folder), str(tmp_path / "report.html"), **options)
    with open(path, encoding="utf-8") as file:
        text = file.read()
    (content,) = re.findall(r'id="content">(.*?)</script>', text, re.DOTALL)
    return text, json.loads(content)


def picture(address: str) -> Image.Image:
    head, content = address.split(",")
    assert head == "data:image/png;base64"
    return Image.open(io.BytesIO(base64.b64decode(content)))


def test_the_pictures_are_the_planes_of_the_maps(tmp_path) -> None:
    _, content = report(write_raster(tmp_path / "folder"), tmp_path)
    (case,) = content["cases"]
    (plane,) = case["planes"]
    assert plane["layers"].keys() == {"answer", "reader-0", "reader-1", *(f"sample-{n}" for n in range(4))}
    found = maps((12, 10))
    for number in range(4):
        drawn = picture(plane["layers"][f"sample-{number}"])
        np.testing.assert_array_equal(np.asarray(drawn), found["samples"][number])
        colours = np.asarray(drawn.convert("RGBA"))
        assert not colours[found["samples"][number] == 0, 3].any()
        assert (colours[found["samples"][number] == 1] == [0xE6, 0x9F, 0, 255]).all()
    assert len(plane["channels"]) == 3
    assert picture(plane["channels"][0]).size == (10, 12)


def test_a_volume_has_three_planes_with_every_map(tmp_path) -> None:
    _, content = report(write_volume(tmp_path / "folder"), tmp_path)
    (case,) = content["cases"]
    assert [plane["name"] for plane in case["planes"]] == [
        "axial, right on the left",
        "coronal, right on the left",
        "sagittal",
    ]
    for plane in case["planes"]:
        assert {"probability-0", "entropy", "mutual_information", "sample-3"} <= plane["layers"].keys()
        assert {picture(address).size for address in plane["layers"].values()} == {tuple(plane["pixels"])}


def test_the_file_needs_nothing_and_runs_no_name(tmp_path) -> None:
    folder = write_volume(tmp_path / "folder", HOSTILE)
    text, content = report(folder, tmp_path)
    assert content["cases"][0]["name"] == HOSTILE
    assert HOSTILE not in text
    assert "default-src 'none'" in text
    assert not re.findall(r"(?:src|href)=[\"'](?!data:)", text)
    modules = json.loads(re.findall(r'type="importmap">(.*?)</script>', text, re.DOTALL)[0])["imports"]
    sources = {name: base64.b64decode(address.split(",")[1]).decode() for name, address in modules.items()}
    for name, source in sources.items():
        for used in re.findall(r'from "([^"]+)"', source):
            assert used in modules, f"{name} needs {used}"
    assert "/*style*/" not in text
    assert "{/*" not in text


def test_names_can_be_left_out(tmp_path) -> None:
    write_volume(tmp_path / "Jane", "Jane_Doe")
    write_volume(tmp_path / "Jane", "Jane_Roe")
    (tmp_path / "Jane" / "Jane_Roe_samples.nii.gz").unlink()
    text, content = report(tmp_path / "Jane", tmp_path, hide_names=True)
    assert [case["name"] for case in content["cases"]] == ["case 1"]
    assert [each["name"] for each in content["failed"]] == ["case 2"]
    assert "Jane" not in text


def test_what_cannot_be_shown_is_said(tmp_path) -> None:
    with pytest.raises(CaseError, match="There is no prediction"):
        report(tmp_path, tmp_path)
    write_volume(tmp_path / "folder")
    (tmp_path / "folder" / "case_1_samples.nii.gz").unlink()
    with pytest.raises(CaseError, match=r"no case can be shown: case_1: case_1_samples\.nii\.gz is not there"):
        report(tmp_path / "folder", tmp_path)
    assert not (tmp_path / "report.html").exists()
    for wrong in (str(tmp_path), True):
        with pytest.raises(CaseError, match="html must be the name of a file"):
            write_report(PredictionFolder(tmp_path / "folder"), wrong)


def test_a_case_that_cannot_be_read_does_not_hide_the_others(tmp_path) -> None:
    folder = write_volume(tmp_path / "folder", "good")
    write_volume(folder, "short")
    nib.save(nib.Nifti1Image(np.zeros((3, 3, 3), np.float32), np.eye(4)), folder / "short_entropy.nii.gz")
    text = json.loads((folder / "good_prediction.json").read_text())
    (folder / "nan_prediction.json").write_text(json.dumps({**text, "name": "nan", "rater_weights": [float("nan"), 1]}))
    _, content = report(folder, tmp_path)
    assert [case["name"] for case in content["cases"]] == ["good"]
    assert {each["name"] for each in content["failed"]} == {"short", "nan"}


def test_an_image_with_a_voxel_that_is_no_number_is_drawn(tmp_path) -> None:
    folder = write_volume(tmp_path / "folder")
    image = np.moveaxis(maps()["image"], 0, -1).astype(np.float32)
    image[0, 0, 0] = np.nan
    nib.save(nib.Nifti1Image(image, np.eye(4)), folder / "case_1_image.nii.gz")
    _, content = report(folder, tmp_path)
    low, high = picture(content["cases"][0]["planes"][0]["channels"][0]).getextrema()
    assert low < high
