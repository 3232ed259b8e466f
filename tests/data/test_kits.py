# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.transforms import Compose, Orientationd, Spacingd

from monai_stochseg.data.case import CaseError
from monai_stochseg.data.kits import kits_datalist
from monai_stochseg.transforms import LoadCased

SIZE = (3, 4, 5)
AFFINE = np.array([[0, 0, -0.8, 0], [0, -0.8, 0, 0], [-4.0, 0, 0, 0], [0, 0, 0, 1]])  # as KiTS has it


def write(path: Path, voxels: np.ndarray | None = None, affine: np.ndarray = AFFINE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.ones(SIZE) if voxels is None else voxels
    nib.save(nib.Nifti1Image(values.astype(np.int16), affine), path)


@pytest.mark.parametrize(
    ("label", "options"),
    [
        ("segmentation.nii.gz", {}),
        ("segmentation.nii", {}),
        ("aggregated_MAJ_seg.nii.gz", {}),
        ("aggregated_OR_seg.nii.gz", {"aggregation": "OR"}),
        ("segmentation_totalsegmentator.nii.gz", {}),
    ],
)
def test_finds_patients_of_each_year(tmp_path, label, options) -> None:
    """The cloned repository, with its other files, or any folder above or within it."""
    data = tmp_path / "kits" / "data"
    for name in ("case_00007", "case_00000"):
        write(data / name / "imaging.nii.gz")
        write(data / name / label)
        write(data / name / "instances" / "kidney_instance-1_annotation-1.nii.gz")
    (data / "kits.json").touch()
    for root in (tmp_path, data):
        cases = kits_datalist(root, **options)
        assert [case["patient"] for case in cases] == ["case_00000", "case_00007"]
        assert cases[0]["image"] == [str(data / "case_00000" / "imaging.nii.gz")]
        assert cases[0]["label"] == [str(data / "case_00000" / label)]
        assert "split" not in cases[0]


def test_aggregations_of_2021_lie_side_by_side(tmp_path) -> None:
    write(tmp_path / "case_00000" / "imaging.nii.gz")
    for name in ("AND", "OR", "MAJ"):
        write(tmp_path / "case_00000" / f"aggregated_{name}_seg.nii.gz")
    for name in ("AND", "OR", "MAJ"):
        assert kits_datalist(tmp_path, aggregation=name)[0]["label"][0].endswith(f"aggregated_{name}_seg.nii.gz")


def test_split_folders(tmp_path) -> None:
    for part in ("train", "validation", "test"):
        for file in ("imaging", "segmentation"):
            write(tmp_path / part / f"case_{part}" / f"{file}.nii.gz")
    assert {case["patient"]: case["split"] for case in kits_datalist(tmp_path)} == {
        "case_train": "train",
        "case_validation": "validation",
        "case_test": "test",
    }


@pytest.mark.parametrize(
    ("name", "values", "keep_cyst", "expected"),
    [
        ("segmentation", [0, 1, 2, 3], False, [0, 1, 2, 1]),
        ("segmentation", [0, 1, 2, 3], True, [0, 1, 2, 3]),
        ("segmentation_totalsegmentator", [1, 2, 3, 24, 117], False, [0, 1, 1, 1, 0]),
        ("segmentation_totalsegmentator", [1, 2, 3, 24, 117], True, [0, 1, 1, 3, 0]),
    ],
)
def test_classes(tmp_path, name, values, keep_cyst, expected) -> None:
    voxels = np.zeros(SIZE)
    voxels.flat[: len(values)] = values
    write(tmp_path / "case_00000" / "imaging.nii.gz")
    write(tmp_path / "case_00000" / f"{name}.nii.gz", voxels)
    (case,) = kits_datalist(tmp_path, keep_cyst=keep_cyst)
    assert LoadCased()(case)["label"].flatten()[: len(values)].tolist() == expected


def test_unlabelled_patients(tmp_path) -> None:
    write(tmp_path / "case_00000" / "imaging.nii.gz")
    with pytest.raises(CaseError, match=rf"no label found under {tmp_path}, .*aggregated_MAJ_seg.*require_label=False"):
        kits_datalist(tmp_path)
    (case,) = kits_datalist(tmp_path, require_label=False)
    assert "label" not in case
    write(tmp_path / "case_00001" / "imaging.nii.gz")
    write(tmp_path / "case_00001" / "aggregated_MAJ_seg.nii.gz")
    with pytest.raises(CaseError, match=r"case_00000: the label is missing, no file case_00000/aggregated_MAJ_seg"):
        kits_datalist(tmp_path)
    assert [len(case.get("label", [])) for case in kits_datalist(tmp_path, require_label=False)] == [0, 1]


def test_refuses(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"aggregation must be one of \('MAJ', 'AND', 'OR'\), got 'STAPLE'"):
        kits_datalist(tmp_path, aggregation="STAPLE")
    with pytest.raises(CaseError, match=f"no patient found under {tmp_path}"):
        kits_datalist(tmp_path)
    write(tmp_path / "case_00000" / "segmentation.nii.gz")
    with pytest.raises(CaseError, match=r"no patient found .*, but .*segmentation.nii\* exists; .* the CT separately"):
        kits_datalist(tmp_path)
    write(tmp_path / "case_00000" / "imaging.nii.gz")
    write(tmp_path / "case_00000" / "segmentation.nii.gz", affine=np.diag([4.0, 0.8, 0.8, 1]))
    with pytest.raises(CaseError, match=r"case_00000: .*segmentation.nii.gz has affine .*resample them to one grid"):
        kits_datalist(tmp_path)


@pytest.mark.parametrize(
    ("case", "spacing"), [("case_00004", (4, 0.9765625, 0.9765625)), ("case_00010", (3, 0.7578125, 0.7578125))]
)
def test_real_maps(real_data, tmp_path, case, spacing) -> None:
    """The real labels, whose CT is not here: the label stands in for it."""
    label = real_data / "kits19" / case / "segmentation.nii.gz"
    (tmp_path / case).mkdir()
    for name in ("imaging.nii.gz", "segmentation.nii.gz"):
        (tmp_path / case / name).symlink_to(label)
    (found,) = kits_datalist(tmp_path)
    loaded = LoadCased()(found)
    assert loaded["label"].pixdim.tolist() == pytest.approx(spacing)
    assert loaded["label"].unique().tolist() == [0, 1, 2]
    turned = Orientationd("label", axcodes="SPL", labels=None)({"label": loaded["label"]})["label"]
    assert turned.shape == loaded["label"].shape
    assert turned.pixdim.tolist() == pytest.approx(spacing)
    assert torch.equal(turned.as_tensor(), loaded["label"].as_tensor().flip(1))  # the file runs to the feet


def test_paper_grid_of_the_real_ct(real_data, tmp_path) -> None:
    """The real CT with TotalSegmentator's classes as a KiTS case, on the voxels of the SVLS paper."""
    (tmp_path / "case_00000").mkdir()
    for name in ("imaging.nii.gz", "segmentation_totalsegmentator.nii.gz"):
        (tmp_path / "case_00000" / name).symlink_to(real_data / "abdomen_ct" / name)
    (case,) = kits_datalist(tmp_path)
    keys = ("image", "label")
    transforms = Compose(
        [
            LoadCased(),
            Orientationd(keys, axcodes="SPL", labels=None),
            Spacingd(keys, pixdim=(3.22, 1.62, 1.62), mode=("bilinear", "nearest")),
        ]
    )
    loaded = LoadCased()(case)
    kidney = (loaded["label"] == 1).sum() * 27
    resampled = transforms(case)
    assert resampled["image"].shape == resampled["label"].shape
    assert resampled["image"].shape[0] == 1
    assert resampled["image"].shape[1] < 30 < resampled["image"].shape[2]
    assert resampled["label"].pixdim.tolist() == pytest.approx((3.22, 1.62, 1.62), abs=0.01)
    volume = (resampled["label"] == 1).sum() * 3.22 * 1.62**2
    assert volume.item() == pytest.approx(kidney.item(), rel=0.05)
    inside = resampled["image"][resampled["label"] == 1]
    assert 0 < inside.median() < 60, "no contrast agent"
