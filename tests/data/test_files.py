# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from monai_stochseg.data import BRATS_LAYOUTS, CaseError
from monai_stochseg.data.files import check_headers, find_files, match_files, only_file

LAYOUT = BRATS_LAYOUTS[0]


def test_finds_files_that_are_not_hidden(tmp_path) -> None:
    for name in ("b/t2.nii", "a/c/t2.nii", "a/._t2.nii", ".cache/t2.nii"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert find_files(tmp_path) == [f"{tmp_path.as_posix()}/{name}" for name in ("a/c/t2.nii", "b/t2.nii")]


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{patient}/t2.nii*", {"p1": ["/d/p1/t2.nii", "/d/p1/t2.nii.gz"]}),
        ("{patient}/rater{rater}.nii", {"p1": ["/d/p1/rater0.nii"], "p2": ["/d/p2/raterAB.nii"]}),
        ("d/{patient}/t?.nii", {"p1": ["/d/p1/t2.nii"]}),
        ("{patient}/t2xnii", {}),
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


def test_checks_headers(tmp_path) -> None:
    image, label, other = (str(tmp_path / f"{name}.nii.gz") for name in ("image", "label", "other"))
    nib.save(nib.Nifti1Image(np.zeros((2, 3, 4, 2)), np.eye(4)), image)
    nib.save(nib.Nifti1Image(np.zeros((2, 3, 4)), np.eye(4)), label)
    nib.save(nib.Nifti1Image(np.zeros((2, 3, 5)), np.eye(4)), other)
    case = {"patient": "p", "image": [image], "label": [label, str(tmp_path / "read_later.mha")]}
    two = replace(LAYOUT, channel_order=("t1", "t2"))
    check_headers(case, two)
    with pytest.raises(CaseError, match=r"patient p: .*image.nii.gz has shape \(2, 3, 4, 2\), but should be 4D with"):
        check_headers(case, replace(LAYOUT, channel_order=("t1",)))
    with pytest.raises(CaseError, match=r"patient p: .*other.nii.gz has shape \(2, 3, 5\).*resample them to one grid"):
        check_headers({**case, "mask": other}, two)
    (tmp_path / "label.nii.gz").write_bytes(b"no NIfTI")
    with pytest.raises(CaseError, match=r"patient p: .*label.nii.gz cannot be read"):
        check_headers(case, two)
