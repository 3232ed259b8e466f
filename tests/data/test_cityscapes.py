# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from monai_stochseg.data import (
    CITYSCAPES_CLASSES,
    CITYSCAPES_SWITCHED_CLASSES,
    CITYSCAPES_SWITCHES,
    CaseError,
    cityscapes_datalist,
    split_cases,
)
from monai_stochseg.data.cityscapes import LABEL_MAPS


def add(root: Path, part: str, city: str, number: int = 0, kinds: tuple[str, ...] = ("labelTrainIds",)) -> str:
    name = f"{city}_{number:06d}_000019"
    files = [f"leftImg8bit/{part}/{city}/{name}_leftImg8bit.png"]
    files += [f"gtFine/{part}/{city}/{name}_gtFine_{kind}.png" for kind in kinds]
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()
    return name


@pytest.fixture
def folder(tmp_path) -> Path:
    """What the organisers deliver, with other files and the test scenes, whose labels are void."""
    add(tmp_path, "train", "aachen", 1, ("labelTrainIds", "labelIds", "instanceIds", "color"))
    add(tmp_path, "train", "aachen", 0, ("labelIds", "color"))
    for city in ("darmstadt", "monchengladbach", "ulm"):
        add(tmp_path, "train", city)
    add(tmp_path, "val", "lindau")
    add(tmp_path, "test", "berlin")
    (tmp_path / "README").touch()
    (tmp_path / "leftImg8bit" / "train" / "aachen" / "._aachen_000001_000019_leftImg8bit.png").touch()
    return tmp_path


def test_lists_the_parts(folder) -> None:
    cases = cityscapes_datalist(folder)
    assert [(case["patient"], case["city"], case["split"]) for case in cases] == [
        ("aachen_000000_000019", "aachen", "train"),
        ("aachen_000001_000019", "aachen", "train"),
        ("darmstadt_000000_000019", "darmstadt", "validation"),
        ("lindau_000000_000019", "lindau", "test"),
        ("monchengladbach_000000_000019", "monchengladbach", "validation"),
        ("ulm_000000_000019", "ulm", "validation"),
    ]
    assert {part: len(found) for part, found in split_cases(cases).items()} == {"train": 2, "validation": 3, "test": 1}
    aachen = folder / "gtFine" / "train" / "aachen"
    assert cases[0]["label"] == str(aachen / "aachen_000000_000019_gtFine_labelIds.png")
    assert cases[0]["label_map"] == LABEL_MAPS["labelIds"]
    assert cases[1]["label"] == str(aachen / "aachen_000001_000019_gtFine_labelTrainIds.png")
    assert cases[1]["label_map"] == LABEL_MAPS["labelTrainIds"]
    assert cases[1]["image"].endswith("leftImg8bit/train/aachen/aachen_000001_000019_leftImg8bit.png")


def test_other_validation_cities(folder) -> None:
    splits = {case["city"]: case["split"] for case in cityscapes_datalist(folder, validation_cities=("aachen",))}
    assert splits["aachen"] == "validation"
    assert splits["ulm"] == "train"


def test_predictions(folder, tmp_path_factory) -> None:
    predictions = tmp_path_factory.mktemp("predictions")
    names = [case["patient"] for case in cityscapes_datalist(folder)]
    for name in names:
        np.save(predictions / f"{name}.npy", np.zeros((19, 1, 1)))
    cases = cityscapes_datalist(folder, predictions)
    assert [case["prediction"] for case in cases] == [str(predictions / f"{name}.npy") for name in names]
    (predictions / "ulm_000000_000019.npy").unlink()
    with pytest.raises(CaseError, match=r"scene ulm_000000_000019: its prediction .*ulm_000000_000019.npy is missing"):
        cityscapes_datalist(folder, predictions)


def test_missing_files(folder, tmp_path_factory) -> None:
    (folder / "gtFine" / "val" / "lindau" / "lindau_000000_000019_gtFine_labelTrainIds.png").unlink()
    with pytest.raises(
        CaseError, match=r"lindau_000000_000019: its label .*labelTrainIds.png \(or ..._labelIds.png\) is missing"
    ):
        cityscapes_datalist(folder)
    cases = cityscapes_datalist(folder, require_label=False)
    assert [case["city"] for case in cases if "label" not in case] == ["lindau"]
    (folder / "leftImg8bit" / "train" / "ulm" / "ulm_000000_000019_leftImg8bit.png").unlink()
    with pytest.raises(CaseError, match=r"ulm_000000_000019: its image .*ulm_000000_000019_leftImg8bit.png is missing"):
        cityscapes_datalist(folder)
    empty = tmp_path_factory.mktemp("empty")
    with pytest.raises(CaseError, match=f"no scene found under {empty}, which should hold leftImg8bit"):
        cityscapes_datalist(empty)


def test_label_ids() -> None:
    """Road, sidewalk, sky, person, car and bicycle; licence plates and rail tracks are void."""
    ids = LABEL_MAPS["labelIds"]
    assert [ids[value] for value in (7, 8, 23, 24, 26, 33)] == [
        CITYSCAPES_CLASSES[name] for name in ("road", "sidewalk", "sky", "person", "car", "bicycle")
    ]
    assert all(ids[value] == 255 for value in (*range(7), 9, 10, 14, 15, 16, 18, 29, 30))
    assert sorted(set(ids.values())) == [*range(19), 255]
    assert LABEL_MAPS["labelTrainIds"] == {**{i: i for i in range(19)}, 255: 255}


def test_switches_of_kohl() -> None:
    names = {number: name for name, number in CITYSCAPES_SWITCHED_CLASSES.items()}
    assert list(names) == list(range(24))
    found = [(names[i], names[j], Fraction(p).limit_denominator(100)) for i, (j, p) in CITYSCAPES_SWITCHES.items()]
    assert found == [
        (name, f"{name} 2", Fraction(share, 17))
        for name, share in (("sidewalk", 8), ("person", 7), ("car", 6), ("vegetation", 5), ("road", 4))
    ]
