# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from monai_stochseg.data import CaseError
from monai_stochseg.data.lidc import crops_datalist
from monai_stochseg.data.lidc.crops import LIDCCrop
from monai_stochseg.data.lidc.crops_folder import read_crop, read_parameters, write_crops
from monai_stochseg.transforms import LoadCropd


def crop(index: int, unit: str = "HU", size: tuple[int, ...] = (5, 3)) -> LIDCCrop:
    random = np.random.default_rng(index)
    scale, offset = (1000, -1000) if unit == "HU" else (1, 0)
    image = random.random(size) * scale + offset
    label = random.random((4, *size)) < 0.5
    label[3] = False
    return LIDCCrop(f"crop_{index}", f"p{index // 2}", image, label, label.any(axis=(1, 2)), (0.5, 0.5), unit)


@pytest.mark.parametrize(("unit", "tolerance"), [("HU", 0.5), ("window", 1e-3)])
def test_written_crops_read_back(tmp_path, unit, tolerance) -> None:
    crops = [replace(crop(i, unit), split="test" if i == 4 else None) for i in range(5)]
    write_crops(iter(crops), tmp_path / "crops", {"source": "here"})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["crops"]
    assert read_parameters(tmp_path / "crops") == {"source": "here"}
    datalist = crops_datalist(tmp_path / "crops")
    assert datalist[1] == {
        "name": "crop_1",
        "patient": "p0",
        "drawn": [1, 1, 1, 0],
        "unit": unit,
        "spacing": [0.5, 0.5],
        "folder": str(tmp_path / "crops"),
        "index": 1,
    }
    assert [case.get("split") for case in datalist] == [None] * 4 + ["test"]
    for case, expected in zip(datalist, crops, strict=True):
        image, label = read_crop(case["folder"], case["index"])
        assert (image.dtype, label.dtype) == (np.float32, np.uint8)
        np.testing.assert_allclose(image, expected.image, atol=tolerance)
        np.testing.assert_array_equal(label, expected.label)
    images = np.load(tmp_path / "crops" / "image.npy")
    assert images.dtype == {"HU": np.int16, "window": np.float16}[unit]
    assert images.shape == np.load(tmp_path / "crops" / "readings.npy").shape == (5, 5, 3)


@pytest.mark.parametrize("num_readers", [1, 6, 8])
def test_all_readers_come_back(tmp_path, num_readers) -> None:
    label = np.random.default_rng(0).random((2, num_readers, 5, 3)) < 0.5
    drawn = np.ones(num_readers, dtype=bool)
    write_crops([replace(crop(i), label=label[i], drawn=drawn) for i in range(2)], tmp_path / "c", {})
    for case, expected in zip(crops_datalist(tmp_path / "c"), label, strict=True):
        assert len(case["drawn"]) == num_readers
        np.testing.assert_array_equal(read_crop(tmp_path / "c", case["index"], num_readers)[1], expected)
        np.testing.assert_array_equal(LoadCropd()(case)["label"], expected)
    if num_readers > 4:
        with pytest.raises(
            CaseError, match=r"readings.npy has the mask of a reader beyond the 4 that crops.json counts"
        ):
            read_crop(tmp_path / "c", 0)


def test_hounsfield_values_do_not_wrap(tmp_path) -> None:
    write_crops(
        [replace(crop(0), image=np.array([[-1e5, -0.6, 40000]]), label=np.ones((4, 1, 3)) > 0)], tmp_path / "c", {}
    )
    image, label = read_crop(tmp_path / "c", 0)
    assert image.tolist() == [[-32768, -1, 32767]]
    assert label.all()


def test_3d(tmp_path) -> None:
    write_crops([replace(crop(i, size=(4, 3, 2)), spacing=(1.0, 1.0, 1.0)) for i in range(2)], tmp_path / "crops", {})
    assert [part.shape for part in read_crop(tmp_path / "crops", 1)] == [(4, 3, 2), (4, 4, 3, 2)]


def test_replaces_an_earlier_one_whole(tmp_path) -> None:
    """A failure on the way leaves the earlier folder and nothing beside it."""
    write_crops([crop(0)], tmp_path / "crops", {"run": 1})

    def failing() -> Iterator[LIDCCrop]:
        yield crop(1)
        raise CaseError("damaged")

    with pytest.raises(CaseError, match="damaged"):
        write_crops(failing(), tmp_path / "crops", {"run": 2})
    assert read_parameters(tmp_path / "crops") == {"run": 1}
    write_crops([crop(1), crop(2)], tmp_path / "crops", {"run": 3})
    assert [case["name"] for case in crops_datalist(tmp_path / "crops")] == ["crop_1", "crop_2"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["crops"]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_failed_exchange_gives_the_earlier_one_back(tmp_path, monkeypatch, error) -> None:
    write_crops([crop(0)], tmp_path / "crops", {"run": 1})
    replace_path = Path.replace

    def fail(self: Path, target: Path) -> Path:
        if self.name == "made":
            raise error
        return replace_path(self, target)

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(error):
        write_crops([crop(1)], tmp_path / "crops", {"run": 2})
    assert read_parameters(tmp_path / "crops") == {"run": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["crops"]


@pytest.mark.parametrize("index", ["", "[]", "{}", '{"parameters": 1}'])
def test_damaged_index_is_replaced_beside_our_arrays_alone(tmp_path, index) -> None:
    write_crops([crop(0)], tmp_path / "crops", {"run": 1})
    (tmp_path / "crops" / "crops.json").write_text(index)
    assert read_parameters(tmp_path / "crops") == {}
    (tmp_path / "crops" / "mine.txt").touch()
    with pytest.raises(FileExistsError, match="holds no crops"):
        write_crops([crop(1)], tmp_path / "crops", {"run": 2})
    (tmp_path / "crops" / "mine.txt").unlink()
    write_crops([crop(1)], tmp_path / "crops", {"run": 2})
    assert read_parameters(tmp_path / "crops") == {"run": 2}


def test_leaves_other_folders_alone(tmp_path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    for refuses in (read_parameters, lambda folder: write_crops([crop(0)], folder, {})):
        with pytest.raises(FileExistsError, match="exists and holds no crops; name another folder"):
            refuses(tmp_path)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"
    (tmp_path / "empty").mkdir()
    assert read_parameters(tmp_path / "empty") is read_parameters(tmp_path / "absent") is None
    write_crops([crop(0)], tmp_path / "empty", {})
    assert len(crops_datalist(tmp_path / "empty")) == 1


@pytest.mark.parametrize(
    ("crops", "message"),
    [
        ([], "there is no crop to write"),
        ([crop(0), crop(1, size=(5, 4))], r"crop crop_1 is \(\(5, 4\), .* but crop_0 \(\(5, 3\)"),
        (
            [crop(0), crop(1, "window")],
            r"crop crop_1 is .*'window'\) in size, readers, spacing and unit, but crop_0 .*'HU'\)",
        ),
        ([crop(0), replace(crop(1), spacing=(1.0, 1.0))], r"crop crop_1 is .*\(1.0, 1.0\), .* but crop_0"),
        ([crop(0), replace(crop(1), label=crop(1).label[:3])], r"crop crop_1 is .*\(3, 5, 3\), .* but crop_0"),
        (
            [replace(crop(0), label=np.zeros((9, 5, 3), bool), drawn=np.zeros(9, bool))],
            r"crop crop_0: label must be .* 1 to 8 readers, got \(9, 5, 3\) .*; write further readers to a folder",
        ),
        ([replace(crop(0), label=crop(0).label[:, 1:])], r"crop crop_0: label must be \[R, \*S\] with the image's S"),
        ([replace(crop(0), label=crop(0).label * 2)], r"crop crop_0: masks must hold 0 and 1, .* got \[0, 2\]"),
        ([replace(crop(0), drawn=np.ones(3, bool))], "crop crop_0: .* 3 of 4 readers"),
        ([replace(crop(0), image=np.full((5, 3), np.nan))], "crop crop_0: its image holds values that are NaN"),
    ],
)
def test_refuses_to_write(tmp_path, crops, message) -> None:
    with pytest.raises(CaseError, match=message):
        write_crops(crops, tmp_path / "crops", {})
    assert not list(tmp_path.iterdir())


def shorten(folder: Path) -> None:
    np.save(folder / "readings.npy", np.zeros((1, 5, 3), np.uint8))


def truncate(folder: Path) -> None:
    (folder / "image.npy").write_bytes((folder / "image.npy").read_bytes()[:-5])


def empty_index(folder: Path) -> None:
    (folder / "crops.json").write_text(json.dumps({"parameters": {}}))


def list_index(folder: Path) -> None:
    (folder / "crops.json").write_text("[]")


def change(**entries) -> Callable[[Path], None]:
    """Other entries of the list, or of its first crop."""

    def damage(folder: Path) -> None:
        index = json.loads((folder / "crops.json").read_text())
        for key, value in entries.items():
            (index if key in index else index["crops"][0])[key] = value
        (folder / "crops.json").write_text(json.dumps(index))

    return damage


def save(name: str, array: np.ndarray) -> Callable[[Path], None]:
    return lambda folder: np.save(folder / name, array)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (shorten, "readings.npy has 1 crops, but crops.json 2; make the folder again"),
        (truncate, "image.npy cannot be read .*; remove the folder and make it again"),
        (lambda folder: (folder / "image.npy").unlink(), "image.npy cannot be read"),
        (
            lambda folder: (folder / "crops.json").unlink(),
            r"crops holds no crops \(crops.json\); make them with python",
        ),
        (empty_index, "holds no crops"),
        (list_index, "holds no crops"),
        (change(crops=[]), "crops.json lists no crop"),
        (change(unit="mm"), r"crops.json: unit must be one of \['HU', 'window'\], got 'mm'"),
        (change(unit=[]), r"crops.json: unit must be one of"),
        (change(unit="window"), r"image.npy has the shape \(2, 5, 3\) and type int16, but should be float16"),
        (change(spacing=[0.5]), r"crops.json: spacing must be 2 or 3 positive numbers in mm, got \[0.5\]"),
        (change(spacing=[0.5, -1]), "spacing must be 2 or 3 positive numbers"),
        (change(spacing=[0.5, float("nan")]), "spacing must be 2 or 3 positive numbers"),
        (change(spacing=[0.5, "0.5"]), "spacing must be 2 or 3 positive numbers"),
        (change(spacing=[0.5, 0.5, 0.5]), "image.npy has the shape .* but should be int16 with 3 axes of space"),
        (change(name=None), "crops.json: crop 0 must have a name and a patient"),
        (change(patient=3), "crops.json: crop 0 must have a name and a patient"),
        (change(drawn=[1, 2, 0, 0]), r"crop crop_0: drawn must be 0 or 1 for each reader, got \[1, 2, 0, 0\]"),
        (change(drawn=None), "crop crop_0: drawn must be 0 or 1 for each reader, got None"),
        (change(drawn=[1, 1, 0]), "crop crop_1 has 4 readers, but crop_0 3"),
        (change(split="val"), r"crop crop_0: split must be one of .*, got 'val'"),
        (save("image.npy", np.zeros((2, 5, 4), np.int16)), "readings.npy has the shape .* of the size of image.npy"),
        (save("readings.npy", np.zeros((2, 5, 3), np.uint16)), "readings.npy has the shape .* type uint16, but should"),
    ],
)
def test_refuses_damaged_folder(tmp_path, damage, message) -> None:
    write_crops([crop(0), crop(1)], tmp_path / "crops", {})
    damage(tmp_path / "crops")
    with pytest.raises(CaseError, match=message):
        crops_datalist(tmp_path / "crops")


def test_refuses_an_image_that_is_not_finite(tmp_path) -> None:
    write_crops([crop(0, "window")], tmp_path / "crops", {})
    np.save(tmp_path / "crops" / "image.npy", np.full((1, 5, 3), np.nan, np.float16))
    with pytest.raises(CaseError, match=r"crop 0 of .*image.npy holds values that are NaN or infinite"):
        read_crop(tmp_path / "crops", 0)
