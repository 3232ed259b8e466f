# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from monai_stochseg.data import CaseError
from monai_stochseg.data.files import case_files, check_headers, find_files, match_files, only_file


def write(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()


def test_finds_files_that_are_not_hidden(tmp_path) -> None:
    for name in ("b/t2.nii", "a/c/t2.nii", "a/._t2.nii", ".cache/t2.nii"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert find_files(tmp_path) == [f"{tmp_path.as_posix()}/{name}" for name in ("a/c/t2.nii", "b/t2.nii")]


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{case}/t2.nii*", {"p1": ["/d/p1/t2.nii", "/d/p1/t2.nii.gz"]}),
        ("{case}/rater{rater}.nii", {"p1": ["/d/p1/rater0.nii"], "p2": ["/d/p2/raterAB.nii"]}),
        ("d/{case}/t?.nii", {"p1": ["/d/p1/t2.nii"]}),
        ("{case}/t2xnii", {}),
        (None, {}),
    ],
)
def test_matches_templates(template, expected) -> None:
    files = ["/d/p1/rater0.nii", "/d/p1/t2.nii", "/d/p1/t2.nii.gz", "/d/p2/raterAB.nii"]
    assert match_files(template, files) == expected


def test_only_one() -> None:
    assert only_file("p", ["a"]) == "a"
    with pytest.raises(CaseError, match="patient p: found twice, a and b"):
        only_file("p", ["a", "b"])


def test_links_back_to_the_root_end(tmp_path) -> None:
    """Two of them would be followed in each other without end."""
    write(tmp_path / "p1" / "t2.nii.gz")
    for name in ("one", "two"):
        (tmp_path / name).symlink_to(tmp_path)
    (tmp_path / "p1" / "across").symlink_to(tmp_path / "p2")
    (tmp_path / "p2").mkdir()
    (tmp_path / "p2" / "back").symlink_to(tmp_path / "p1")
    elsewhere = tmp_path.parent / f"{tmp_path.name}_elsewhere"
    write(elsewhere / "t2.nii.gz")
    (tmp_path / "p3").symlink_to(elsewhere)
    found = {file.removeprefix(f"{tmp_path.as_posix()}/") for file in find_files(tmp_path)}
    assert found == {"p1/t2.nii.gz", "p2/back/t2.nii.gz", "p3/t2.nii.gz"}


def test_a_folder_that_cannot_be_listed_is_named(tmp_path, monkeypatch) -> None:
    (tmp_path / "p1").mkdir()

    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.scandir", refuse)
    with pytest.raises(CaseError, match=rf"^{tmp_path} cannot be listed \(Permission denied\)"):
        find_files(tmp_path)


def test_checks_headers(tmp_path) -> None:
    image, label, other = (str(tmp_path / f"{name}.nii.gz") for name in ("image", "label", "other"))
    nib.save(nib.Nifti1Image(np.zeros((2, 3, 4, 2)), np.eye(4)), image)
    nib.save(nib.Nifti1Image(np.zeros((2, 3, 4)), np.eye(4)), label)
    nib.save(nib.Nifti1Image(np.zeros((2, 3, 5)), np.eye(4)), other)
    case = {"patient": "p", "image": [image], "label": [label, str(tmp_path / "read_later.mha")], "image_channels": 2}
    check_headers(case)
    with pytest.raises(CaseError, match=r"patient p: .*image.nii.gz has shape \(2, 3, 4, 2\), but should be 4D with 3"):
        check_headers({**case, "image_channels": 3})
    with pytest.raises(CaseError, match=r"patient p: .*other.nii.gz has shape \(2, 3, 5\).*resample them to one grid"):
        check_headers({**case, "mask": other})
    (tmp_path / "label.nii.gz").write_bytes(b"no NIfTI")
    with pytest.raises(CaseError, match=r"patient p: .*label.nii.gz cannot be read"):
        check_headers(case)


def test_files_of_a_case_and_their_channels() -> None:
    case = {"image": ["i"], "label": ["a", "b"], "label_channels": 3, "mask": "m"}
    assert case_files(case) == [("i", 1), ("a", 3), ("b", 3), ("m", 1)]
    assert case_files({"image": ["i", "j"], "image_channels": 4, "mask": None}) == [("i", 4), ("j", 4)]
