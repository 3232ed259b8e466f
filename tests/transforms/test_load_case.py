# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import DataLoader, MetaTensor
from monai.transforms import NormalizeIntensityd, RandSpatialCropd, SaveImaged, Spacingd

from monai_stochseg.data import CaseDataset, CaseError, brats_datalist
from monai_stochseg.transforms import CheckMinSized, LoadCased, MaskLabeld

AFFINE = np.array([[-2.0, 0, 0, 3], [0, -1, 0, 5], [0, 0, 1, 7], [0, 0, 0, 1]])


def write(path: Path, voxels: np.ndarray, affine: np.ndarray = AFFINE) -> str:
    nib.save(nib.Nifti1Image(voxels.astype(np.float32), affine), path)
    return str(path)


@pytest.fixture
def case(tmp_path: Path) -> dict:
    """Two modalities of 2 x 2 x 3 voxels, two raters."""
    flair, t1 = np.arange(12.0).reshape(2, 2, 3), np.zeros((2, 2, 3))
    label = np.array([0, 1, 2, 4] * 3).reshape(2, 2, 3)
    return {
        "patient": "p.1",
        "image": [write(tmp_path / "flair.nii.gz", flair), write(tmp_path / "t1.nii.gz", t1)],
        "label": [write(tmp_path / "a.nii.gz", label), write(tmp_path / "b.nii.gz", 0 * label)],
        "label_map": {0: 0, 1: 1, 2: 2, 4: 3},
    }


def test_loads_image_label_and_mask(case) -> None:
    loaded = LoadCased()(case)
    assert set(loaded) == {"patient", "image", "label", "mask"}
    image, label, mask = loaded["image"], loaded["label"], loaded["mask"]
    assert image.shape == (2, 2, 2, 3)
    assert image.dtype == torch.float32
    assert image[0].flatten().tolist() == list(range(12))
    assert label.shape == (2, 2, 2, 3)
    assert label.dtype == torch.uint8
    assert label[0].flatten().tolist() == [0, 1, 2, 3] * 3
    assert not label[1].any()
    assert mask.flatten().tolist() == [0] + [1] * 11
    for value in (image, label, mask):
        assert np.array_equal(value.affine, AFFINE)
    assert case["label_map"] == {0: 0, 1: 1, 2: 2, 4: 3}, "the input must not change"


def test_takes_channels_and_json_keys(case) -> None:
    loaded = LoadCased()({**case, "channels": [1, 0, 0], "label_map": {"0": 0, "1": 0, "2": 3, "4": 1}})
    assert loaded["image"].shape == (3, 2, 2, 3)
    assert not loaded["image"][0].any()
    assert loaded["label"][0].flatten().tolist() == [0, 0, 3, 1] * 3


def test_mask_file_is_cut_at_one_half(case, tmp_path) -> None:
    mask = np.linspace(0, 1, 12).reshape(2, 2, 3)
    loaded = LoadCased()({**case, "mask": write(tmp_path / "mask.nii.gz", mask * (1 - 1e-7))})
    assert loaded["mask"].flatten().tolist() == [0] * 6 + [1] * 6


def test_an_image_without_a_brain_has_no_mask(case) -> None:
    """Such as CT of the abdomen, whose air is not zero."""
    write(Path(case["image"][1]), np.full((2, 2, 3), -1000))
    with pytest.raises(CaseError, match=r"patient p.1: 100.0% of the image differ from zero"):
        LoadCased()(case)
    assert set(LoadCased()({**case, "mask": None})) == {"patient", "image", "label"}


def test_inference_needs_no_label(case) -> None:
    assert set(LoadCased(with_label=False)(case)) == {"patient", "image", "mask"}
    with pytest.raises(CaseError, match=r"patient p.1: there is no label to load"):
        LoadCased()({"patient": "p.1", "image": case["image"]})


@pytest.mark.parametrize("axes", [2, 3])
def test_fits_monai_transforms(tmp_path, axes) -> None:
    """Geometry follows `axes` spatial axes, and items can be batched."""
    cases = []
    for name in "ab":
        brain = np.random.default_rng(0).random((6, 8, 10)[:axes]) + 1
        image = write(tmp_path / f"{name}.nii", np.pad(brain, 1))
        label = write(tmp_path / f"{name}_label.nii", np.ones((8, 10, 12)[:axes]))
        cases.append({"patient": name, "image": [image], "label": [label, label, label], "label_map": {1: 2}})
    keys = ("image", "label", "mask")
    transforms = [
        LoadCased(),
        MaskLabeld("label"),
        Spacingd(keys, pixdim=(1.0,) * axes, mode=("bilinear", "nearest", "nearest")),
        NormalizeIntensityd("image", nonzero=True, channel_wise=True),
        CheckMinSized("image", 6),
        RandSpatialCropd(keys, roi_size=6, random_size=False),
    ]
    dataset = CaseDataset(cases, transforms, progress=False)
    assert LoadCased()(cases[0])["image"].shape == (1, *(8, 10, 12)[:axes])
    (batch,) = DataLoader(dataset, batch_size=2)
    assert batch["patient"] == ["a", "b"]
    assert batch["image"].shape == (2, 1, *[6] * axes)
    assert batch["label"].shape == (2, 3, *[6] * axes)
    assert set(batch["label"].unique().tolist()) <= {2, 255}
    assert np.allclose(np.abs(np.linalg.eigvals(batch["image"].affine[0][:axes, :axes])), 1)


def test_savers_name_files_by_patient(case, tmp_path) -> None:
    loaded = LoadCased()(case)
    SaveImaged("mask", output_dir=tmp_path / "out", output_postfix="mask", print_log=False)(loaded)
    saved = nib.load(tmp_path / "out" / "p.1" / "p.1_mask.nii.gz")
    assert np.array_equal(saved.affine, AFFINE)


def test_decathlon_channels_and_classes(tmp_path) -> None:
    (tmp_path / "imagesTr").mkdir()
    (tmp_path / "labelsTr").mkdir()
    voxels = np.arange(8).reshape(2, 2, 2, 1) + 10 * np.arange(1, 5)
    voxels[1] = 0
    write(tmp_path / "imagesTr" / "BRATS_001.nii.gz", voxels)
    write(tmp_path / "labelsTr" / "BRATS_001.nii.gz", np.array([0, 1, 2, 3] * 2).reshape(2, 2, 2))
    loaded = LoadCased()(brats_datalist(tmp_path, ("t2", "t1c", "flair"))[0])
    assert loaded["image"][:, 0, 0, 0].tolist() == [40, 30, 10]
    assert loaded["label"].flatten().tolist() == [0, 2, 1, 3] * 2


def test_real_patient(real_data) -> None:
    case = brats_datalist(real_data / "brats2015" / "validation", ("flair", "t1c"))[0]
    loaded = LoadCased()(case)
    raw = torch.as_tensor(nib.load(case["label"][0]).get_fdata())
    assert loaded["image"].shape == (2, 240, 240, 155)
    assert np.array_equal(loaded["image"].affine, nib.load(case["image"][0]).affine)
    tumour = (loaded["label"] > 0).sum()
    assert 0 < tumour - (loaded["label"] * loaded["mask"] > 0).sum() < 0.01 * tumour, "a few voxels lie outside"
    for canonical, classes in enumerate([(0,), (1, 3), (2,), (4,)]):
        expected = torch.isin(raw, torch.tensor(classes, dtype=raw.dtype)).sum()
        assert (loaded["label"] == canonical).sum() == expected


@pytest.mark.parametrize(
    ("key", "file", "voxels", "affine", "message"),
    [
        ("image", "t1", np.full((2, 2, 3), np.nan), AFFINE, r"t1.nii.gz has 12 voxels that are NaN or infinite"),
        ("image", "t1", np.full((2, 2, 3), np.inf), AFFINE, r"t1.nii.gz has 12 voxels that are NaN or infinite"),
        ("image", "t1", np.ones((2, 2, 2)), AFFINE, r"t1.nii.gz has shape \(2, 2, 2\), but .* has \(2, 2, 3\)"),
        ("label", "b", np.ones((2, 2, 3)), np.eye(4), r"b.nii.gz has affine .* but .*flair.nii.gz has"),
        ("label", "b", np.full((2, 2, 3), 3), AFFINE, r"b.nii.gz has the label 3, which is not one of \[0, 1, 2, 4\]"),
        ("label", "b", np.full((2, 2, 3), 0.5), AFFINE, r"b.nii.gz has the label 0.5, which is not one of"),
        ("label", "b", np.full((2, 2, 3), np.nan), AFFINE, r"b.nii.gz has the label nan, which is not one of"),
        ("image", "flair", np.zeros((2, 2, 3)), AFFINE, r"the brain mask is empty \(the image is zero\)"),
    ],
)  # fmt: skip
def test_refuses(case, tmp_path, key, file, voxels, affine, message) -> None:
    assert any(f"{file}.nii.gz" in path for path in case[key])
    write(tmp_path / f"{file}.nii.gz", voxels, affine)
    with pytest.raises(CaseError, match=f"^patient p.1: .*{message}"):
        CaseDataset([case], [LoadCased()], progress=False)


def test_refuses_mask_that_is_not_finite(case, tmp_path) -> None:
    with pytest.raises(CaseError, match=r"patient p.1: .*mask.nii.gz has 12 voxels that are NaN"):
        LoadCased()({**case, "mask": write(tmp_path / "mask.nii.gz", np.full((2, 2, 3), np.nan))})


@pytest.mark.parametrize(("key", "file"), [("label", "b"), ("image", "t1")])
@pytest.mark.parametrize("channels", [(3,), (1, 2)])
def test_one_file_is_one_channel(case, tmp_path, key, file, channels) -> None:
    """Also in a list of cases that no datalist of this package made."""
    path = Path(write(tmp_path / f"{file}.nii.gz", np.zeros((2, 2, 3, 1))))
    before = LoadCased()(case)[key].shape
    write(path, np.zeros((2, 2, 3, *channels)))
    with pytest.raises(
        CaseError, match=rf"^patient p.1: .*{file}.nii.gz has shape \(2, 2, 3, .*should have one channel"
    ):
        LoadCased()(case)
    assert before == (2, 2, 2, 3)


def test_raters_of_one_file_are_read_where_the_case_says_so(case, tmp_path) -> None:
    raters = np.stack([np.full((2, 2, 3), value) for value in (0, 1, 4)], axis=-1)
    loaded = LoadCased()({**case, "label": [write(tmp_path / "raters.nii.gz", raters)], "label_channels": 3})
    assert loaded["label"].flatten(1).unique(dim=1).tolist() == [[0], [1], [3]]


def test_raters_are_padded_to_the_number_that_the_case_says(case) -> None:
    """So that cases with fewer raters share a batch with others; a missing rater weighs 0 and says no background."""
    fewer = {**case, "patient": "p.2", "label": case["label"][:1]}
    loaded = [LoadCased()({**each, "num_raters": 3}) for each in (case, fewer)]
    batch = next(iter(DataLoader(loaded, batch_size=2)))
    assert batch["label"].shape == (2, 3, 2, 2, 3)
    assert batch["rater_weights"].tolist() == [[1, 1, 0], [1, 0, 0]]
    assert np.array_equal(loaded[0]["label"].affine, AFFINE)
    assert "rater_weights" not in LoadCased(with_label=False)({**case, "num_raters": 3})


def test_colours_of_another_format_are_not_raters(case, tmp_path) -> None:
    itk = pytest.importorskip("itk", reason="reading .mha needs itk")
    file = str(tmp_path / "colours.mha")
    itk.imwrite(itk.image_from_array(np.zeros((3, 2, 2, 3), np.float32), is_vector=True), file)
    with pytest.raises(CaseError, match=r"^patient p.1: .*colours.mha has shape \(3, .*should have one channel"):
        LoadCased()({**case, "label": [file]})


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".mha"])
def test_a_damaged_file_names_patient_and_file(case, tmp_path, suffix) -> None:
    if suffix == ".mha":
        itk = pytest.importorskip("itk", reason="reading .mha needs itk")
        itk.imwrite(itk.image_from_array(np.zeros((3, 2, 2), np.float32)), str(tmp_path / "cut.mha"))
    else:
        write(tmp_path / f"cut{suffix}", np.random.default_rng(0).random((2, 2, 3)))
    file = tmp_path / f"cut{suffix}"
    file.write_bytes(file.read_bytes()[:-12])
    with pytest.raises(CaseError, match=rf"^patient p.1: .*cut{suffix} (cannot be read|is cut off).*again") as caught:
        CaseDataset([{**case, "image": [str(file)]}], [LoadCased()], progress=False)
    assert caught.value.__suppress_context__


def test_refuses_empty_mask(case, tmp_path) -> None:
    with pytest.raises(CaseError, match=r"patient p.1: the brain mask is empty \(.*mask.nii.gz\)"):
        LoadCased()({**case, "mask": write(tmp_path / "mask.nii.gz", np.zeros((2, 2, 3)))})


def test_results_do_not_share_metadata(case) -> None:
    loaded = LoadCased()(case)
    assert isinstance(loaded["label"], MetaTensor)
    loaded["image"].affine = torch.eye(4)
    assert np.array_equal(loaded["label"].affine, AFFINE)


def brats2015_as_delivered(folder: Path) -> None:
    itk = pytest.importorskip("itk", reason="reading .mha needs itk")
    patient = folder / "HGG" / "brats_2013_pat0001_1"
    names = ["O.MR_Flair", "O.MR_T1", "O.MR_T1c", "O.MR_T2", "O.OT"]
    for number, name in enumerate(names):
        scan = patient / f"VSD.Brain.XX.{name}.5451{number}"
        scan.mkdir(parents=True)
        voxels = np.arange(5 * 4 * 3).reshape(3, 4, 5)
        voxels = voxels % 5 if name == "O.OT" else (voxels + number + 1.0) * (voxels < 30)
        itk.imwrite(itk.image_from_array(voxels.astype(np.float32)), str(scan / f"{scan.name}.mha"))


def test_brats2015_as_delivered(tmp_path):
    brats2015_as_delivered(tmp_path)
    loaded = LoadCased()(brats_datalist(tmp_path, ("t2", "flair"))[0])
    assert loaded["image"].shape == (2, 5, 4, 3)
    assert loaded["image"][:, 0, 0, 0].tolist() == [4, 1]
    assert loaded["label"].unique().tolist() == [0, 1, 2, 3]


def test_names_itk_where_it_is_missing(case, monkeypatch):
    monkeypatch.setattr("monai_stochseg.transforms.load_case.optional_import", lambda name: (None, False))
    with pytest.raises(CaseError, match=r"patient p.1: reading x.mha needs itk: pip install 'monai_stochseg\[mha\]'"):
        LoadCased()({**case, "image": ["x.mha"]})
