# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from monai.transforms import Compose

from monai_stochseg.data.case import CaseError
from monai_stochseg.data.prostatex import prostatex_datalist
from monai_stochseg.transforms import LoadCased
from monai_stochseg.transforms.merge_label_parts import MergeLabelPartsd

SIZE = (4, 3, 2)
VALUES = np.resize(np.arange(5), SIZE)
MASKS = ("pz", "tz", "dpu", "afs")
LOAD = Compose([LoadCased(), MergeLabelPartsd()])


def write(path: Path, voxels: np.ndarray = VALUES, affine: np.ndarray | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    affine = np.diag([-0.5, -0.5, 3, 1]) if affine is None else affine
    nib.save(nib.Nifti1Image(voxels.astype(np.float32), affine), path)


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("{}/t2.nii.gz", "{}/zones.nii.gz"),
        ("{}_t2_tse_tra_4.nii.gz", "{}_zones.nii"),
        ("images/{}.nii.gz", "labels/{}.nii.gz"),
        ("imagesTr/{}.nii.gz", "labelsTr/{}.nii.gz"),
    ],
)
def test_one_map_a_patient(tmp_path, image, label) -> None:
    for patient in ("ProstateX-0007", "ProstateX-0004"):
        write(tmp_path / image.format(patient), VALUES + 1)
        write(tmp_path / label.format(patient))
    case, other = prostatex_datalist(tmp_path)
    assert (case["patient"], other["patient"]) == ("ProstateX-0004", "ProstateX-0007")
    assert case["image"] == [str(tmp_path / image.format("ProstateX-0004"))]
    assert case["label"] == [str(tmp_path / label.format("ProstateX-0004"))]
    loaded = LOAD(case)
    assert np.array_equal(loaded["label"][0], VALUES)
    assert loaded["image"].shape == (1, *SIZE)


@pytest.mark.parametrize("folder", ["ProstateX-0004/", "ProstateX-0004_", "Files/mask_{}/ProstateX-0004_"])
@pytest.mark.parametrize(("white", "spell"), [(1, str.lower), (255, str.lower), (1, str.upper)])
def test_one_mask_a_zone(tmp_path, folder, white, spell) -> None:
    write(tmp_path / "test" / "ProstateX-0004_t2.nii.gz")
    for value, zone in enumerate(MASKS, 1):
        write(tmp_path / f"{folder.format(zone)}{spell(zone)}.nii.gz", white * (value == VALUES))
    (case,) = prostatex_datalist(tmp_path)
    assert (case["split"], len(case["label"])) == ("test", 4)
    loaded = LOAD(case)
    assert np.array_equal(loaded["label"][0], VALUES)
    assert "label_classes" not in loaded


def test_some_zones(tmp_path) -> None:
    write(tmp_path / "p_t2.nii.gz")
    for value, zone in enumerate(MASKS[:2], 1):
        write(tmp_path / f"p_{zone}.nii.gz", value == VALUES)
    with pytest.raises(CaseError, match=r"patient p: the mask of DPU is missing, but others are there; .*`zones`"):
        prostatex_datalist(tmp_path)
    expected = np.choose(VALUES, [0, 2, 1, 0, 0])
    (case,) = prostatex_datalist(tmp_path, zones=("TZ", "PZ"))
    assert np.array_equal(LOAD(case)["label"][0], expected)
    write(tmp_path / "p_zones.nii.gz")
    (case,) = prostatex_datalist(tmp_path, zones=("TZ", "PZ"))
    assert "label_classes" not in case
    assert np.array_equal(LOAD(case)["label"][0], expected)


def test_unlabelled_patient(tmp_path) -> None:
    write(tmp_path / "p" / "t2.nii.gz")
    with pytest.raises(CaseError, match=r"patient p: the label is missing, no file .*zones.nii.*require_label=False"):
        prostatex_datalist(tmp_path)
    (case,) = prostatex_datalist(tmp_path, require_label=False)
    assert "label" not in case


def test_refuses(tmp_path) -> None:
    with pytest.raises(
        ValueError, match=r"zones must be some of \['PZ', 'TZ', 'DPU', 'AFS'\], each once, got \['CZ'\]"
    ):
        prostatex_datalist(tmp_path, zones=("CZ",))
    with pytest.raises(CaseError, match=f"no T2 image found under {tmp_path}"):
        prostatex_datalist(tmp_path)
    write(tmp_path / "p" / "t2.nii.gz")
    write(tmp_path / "p" / "zones.nii.gz", affine=np.eye(4))
    with pytest.raises(CaseError, match=r"patient p: .*zones.nii.gz has affine"):
        prostatex_datalist(tmp_path)
    write(tmp_path / "p" / "zones.nii.gz")
    write(tmp_path / "copy" / "p" / "zones.nii.gz")
    with pytest.raises(CaseError, match="patient p: found twice"):
        prostatex_datalist(tmp_path)
