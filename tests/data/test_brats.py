# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from monai_stochseg.data import CaseError, Layout, brats_datalist

SIZE = (6, 5, 4)


def write(path: Path, value: float = 1.0, shape: tuple[int, ...] = SIZE, affine: np.ndarray | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".mha":
        path.touch()
    else:
        nib.save(nib.Nifti1Image(np.full(shape, value, np.float32), np.eye(4) if affine is None else affine), path)


def write_all(root: Path, names: dict[str, str], label: str) -> None:
    for name in [*names.values(), label]:
        write(root / name)


NAMES = {
    "brats2015_normalised": (
        "train/brats_2013_pat0005_1",
        {m: f"{n}_subtrMeanDivStd.nii.gz" for m, n in {"flair": "Flair", "t1": "T1", "t1c": "T1c", "t2": "T2"}.items()},
        "OTMultiClass.nii.gz",
    ),
    "brats2015": (
        "HGG/brats_tcia_pat105_0001",
        {
            m: f"VSD.Brain.XX.O.MR_{n}.{i}/VSD.Brain.XX.O.MR_{n}.{i}.mha"
            for i, (m, n) in enumerate({"flair": "Flair", "t1": "T1", "t1c": "T1c", "t2": "T2"}.items())
        },
        "VSD.Brain_3more.XX.O.OT.9/VSD.Brain_3more.XX.O.OT.9.mha",
    ),
    "brats2017_2021": (
        "LGG/BraTS20_Training_001",
        {m: f"BraTS20_Training_001_{m.replace('t1c', 't1ce')}.nii.gz" for m in ("flair", "t1", "t1c", "t2")},
        "BraTS20_Training_001_seg.nii.gz",
    ),
    "brats2023": (
        "BraTS-GLI-00005-100",
        {
            m: f"BraTS-GLI-00005-100-{n}.nii"
            for m, n in {"flair": "t2f", "t1": "t1n", "t1c": "t1c", "t2": "t2w"}.items()
        },
        "BraTS-GLI-00005-100-seg.nii",
    ),
    "simulated_brain": (
        "simulated_000",
        {m: f"{m}.nii.gz" for m in ("flair", "t1", "t1c", "t2")},
        "rater00.nii.gz",
    ),
}
SUBJECTS = {
    "brats2015_normalised": "brats_2013_pat0005",
    "brats2015": "brats_tcia_pat105",
    "brats2017_2021": "BraTS20_Training_001",
    "brats2023": "BraTS-GLI-00005",
    "simulated_brain": "simulated_000",
}


@pytest.fixture(params=NAMES)
def delivered(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path, Path, dict[str, str], str]:
    folder, names, label = NAMES[request.param]
    write_all(tmp_path / folder, names, label)
    if request.param == "brats2015_normalised":
        write(tmp_path / folder / "brainmask.nii.gz")
    return request.param, tmp_path, tmp_path / folder, names, label


@pytest.mark.parametrize("modalities", [("flair", "t1", "t1c", "t2"), ("t1c", "flair"), ("t2",)])
def test_finds_patient_of_each_layout(delivered, modalities) -> None:
    layout, root, folder, names, label = delivered
    for start in (root, folder):
        (case,) = brats_datalist(start, modalities)
        assert case["patient"] == folder.name
        assert case["subject"] == SUBJECTS[layout]
        assert case["layout"] == layout
        assert case["image"] == [str(folder / names[modality]) for modality in modalities]
        assert case["channels"] == list(range(len(modalities)))
        assert case["label"] == [str(folder / label)]
        mask = {"mask": str(folder / "brainmask.nii.gz")} if layout == "brats2015_normalised" else {}
        assert {key: case[key] for key in case if key == "mask"} == mask
        assert case.get("split") == ("train" if start == root and layout == "brats2015_normalised" else None)


def test_missing_modality_names_patient_and_file(delivered) -> None:
    _, root, folder, names, _ = delivered
    (folder / names["t1c"]).unlink()
    with pytest.raises(CaseError, match=rf"patient {folder.name}: modality 't1c' is missing, no file .*{root}"):
        brats_datalist(root)
    assert len(brats_datalist(root, ("flair", "t2"))) == 1


def test_missing_label_names_patient_and_file(delivered) -> None:
    _, root, folder, _, label = delivered
    (folder / label).unlink()
    with pytest.raises(CaseError, match=rf"patient {folder.name}: the label is missing, no file .*require_label=False"):
        brats_datalist(root)
    (case,) = brats_datalist(root, require_label=False)
    assert "label" not in case
    assert "label_map" not in case


@pytest.fixture
def decathlon(tmp_path: Path) -> Path:
    write(tmp_path / "imagesTr" / "BRATS_001.nii.gz", shape=(*SIZE, 4))
    write(tmp_path / "labelsTr" / "BRATS_001.nii.gz")
    write(tmp_path / "imagesTs" / "BRATS_485.nii.gz", shape=(*SIZE, 4))
    (tmp_path / "imagesTr" / "._BRATS_001.nii.gz").touch()
    return tmp_path


def test_decathlon_picks_channels_and_passes_over_unlabelled(decathlon) -> None:
    (case,) = brats_datalist(decathlon, ("t1c", "flair"))
    assert case["image"] == [str(decathlon / "imagesTr" / "BRATS_001.nii.gz")]
    assert (case["channels"], case["image_channels"]) == ([2, 0], 4)
    assert case["label_map"] == {0: 0, 1: 2, 2: 1, 3: 3}
    train, test = brats_datalist(decathlon, require_label=False)
    assert "label" in train
    assert test["patient"] == "BRATS_485"
    assert "label" not in test


def test_decathlon_needs_four_channels(decathlon) -> None:
    write(decathlon / "imagesTr" / "BRATS_001.nii.gz", shape=(*SIZE, 2))
    with pytest.raises(CaseError, match=r"BRATS_001: .* has shape \(6, 5, 4, 2\), but should be 4D with 4 channels"):
        brats_datalist(decathlon)


def test_brain_mask_and_raters_are_listed_in_order(tmp_path) -> None:
    folder, names, label = NAMES["brats2015_normalised"]
    write_all(tmp_path / folder, names, label)
    write(tmp_path / folder / "brainmask.nii.gz")
    assert brats_datalist(tmp_path)[0]["mask"].endswith("brainmask.nii.gz")

    folder, names, label = NAMES["simulated_brain"]
    write_all(tmp_path / folder, names, label)
    write(tmp_path / folder / "rater01.nii.gz")
    case = brats_datalist(tmp_path, layout="simulated_brain")[0]
    assert [Path(file).name for file in case["label"]] == ["rater00.nii.gz", "rater01.nii.gz"]


def test_missing_brain_mask_names_patient_and_file(tmp_path) -> None:
    """The background of this layout is not zero: without a mask the whole volume would be brain."""
    folder, names, label = NAMES["brats2015_normalised"]
    write_all(tmp_path / folder, names, label)
    for require_label in (True, False):
        with pytest.raises(
            CaseError,
            match=r"^patient brats_2013_pat0005_1: the brain mask is missing, no file .*pat0005_1/brainmask.nii",
        ):
            brats_datalist(tmp_path, require_label=require_label)


@pytest.mark.parametrize("file", ["BraTS20_Training_001_t2.nii.gz", "BraTS20_Training_001_seg.nii.gz"])
@pytest.mark.parametrize("channels", [(3,), (1, 2), (0,)])
def test_one_file_is_one_channel(tmp_path, file, channels) -> None:
    """Neither are channels of a label raters, nor does a second volume take the place of the next modality."""
    folder, names, label = NAMES["brats2017_2021"]
    write_all(tmp_path / folder, names, label)
    write(tmp_path / folder / file, shape=(*SIZE, 1))
    assert len(brats_datalist(tmp_path)) == 1
    write(tmp_path / folder / file, shape=(*SIZE, *channels))
    with pytest.raises(CaseError, match=rf"^patient BraTS20_Training_001: .*{file} has (the )?shape"):
        brats_datalist(tmp_path)


def test_different_numbers_of_raters_are_noted(tmp_path) -> None:
    for patient, raters in (("a", 3), ("b", 2), ("c", 0)):
        write(tmp_path / patient / "t2.nii.gz")
        for rater in range(raters):
            write(tmp_path / patient / f"rater{rater}.nii.gz")
    cases = brats_datalist(tmp_path, ("t2",), require_label=False)
    assert [case.get("num_raters") for case in cases] == [3, 3, None]
    (tmp_path / "a" / "rater2.nii.gz").unlink()
    assert not any("num_raters" in case for case in brats_datalist(tmp_path, ("t2",), require_label=False))


def test_raters_in_one_file_where_the_layout_says_so(tmp_path) -> None:
    write(tmp_path / "a" / "ct.nii")
    write(tmp_path / "a" / "raters.nii", shape=(*SIZE, 3))
    own = Layout("own", {"ct": "{case}/ct.nii"}, "{case}/raters.nii", {0: 0, 1: 1}, raters_in_file=True)
    (case,) = brats_datalist(tmp_path, ("ct",), layout=own)
    assert case["label_channels"] == 3
    write(tmp_path / "a" / "raters.nii", shape=(*SIZE, 1, 2))
    with pytest.raises(CaseError, match=r"patient a: .*raters.nii has shape \(6, 5, 4, 1, 2\)"):
        brats_datalist(tmp_path, ("ct",), layout=own)


def test_own_layout(tmp_path) -> None:
    write(tmp_path / "a" / "ct.nii")
    write(tmp_path / "a" / "liver.nii")
    own = Layout(name="own", modalities={"ct": "{case}/ct.nii"}, label="{case}/liver.nii", label_map={0: 0, 9: 1})
    (case,) = brats_datalist(tmp_path, ("ct",), layout=own)
    assert (case["patient"], case["label_map"]) == ("a", {0: 0, 9: 1})


def test_real_patients(real_data) -> None:
    cases = brats_datalist(real_data / "brats2015", ("flair", "t1c"))
    assert [case["split"] for case in cases] == ["validation", "validation", "train", "train"]
    assert all("mask" in case for case in cases)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"modalities": ("flair", "t1ce")}, r"'t1ce' is unknown; choose among \['flair', 't1', 't1c', 't2'\]"),
        ({"modalities": ()}, r"at least one modality, each once, got \[\]"),
        ({"modalities": ("t1", "t1")}, r"each once, got \['t1', 't1'\]"),
        ({"layout": "brats1999"}, "layout: 'brats1999' is unknown; choose among"),
    ],
)  # fmt: skip
def test_refuses_options(delivered, options, message) -> None:
    with pytest.raises(CaseError, match=message):
        brats_datalist(delivered[1], **options)


@pytest.mark.parametrize("folder", ["", "absent"])
def test_refuses_folder_without_patients(tmp_path, folder) -> None:
    with pytest.raises(CaseError, match=f"no patient found under {tmp_path / folder}"):
        brats_datalist(tmp_path / folder)


@pytest.mark.parametrize("file", ["BraTS20_Training_001_t2.nii.gz", "BraTS20_Training_001_seg.nii.gz"])
def test_refuses_other_geometry(tmp_path, file) -> None:
    folder, names, label = NAMES["brats2017_2021"]
    write_all(tmp_path / folder, names, label)
    write(tmp_path / folder / file, shape=(6, 5, 3))
    with pytest.raises(CaseError, match=rf"BraTS20_Training_001: .*{file} has shape \(6, 5, 3\), but .* \(6, 5, 4\)"):
        brats_datalist(tmp_path)
    write(tmp_path / folder / file, affine=np.diag([1, 1, 2, 1]))
    with pytest.raises(CaseError, match=f"BraTS20_Training_001: .*{file} has affine .*2.0, 0.0.*, but"):
        brats_datalist(tmp_path)
    (tmp_path / folder / file).write_bytes(b"")
    with pytest.raises(CaseError, match=f"BraTS20_Training_001: .*{file} cannot be read"):
        brats_datalist(tmp_path)


def test_refuses_patient_found_twice(tmp_path) -> None:
    _, names, label = NAMES["brats2017_2021"]
    write_all(tmp_path / "HGG", names, label)
    write_all(tmp_path / "copy", names, label)
    with pytest.raises(CaseError, match=r"BraTS20_Training_001: found twice, .*/HGG/.* and .*/copy/"):
        brats_datalist(tmp_path)
