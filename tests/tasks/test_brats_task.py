# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import shutil
from itertools import chain
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.inferers import SlidingWindowInferer
from monai.transforms import Compose, RandFlipd

from monai_stochseg.data import BRATS_CLASSES, CaseError, brats_datalist
from monai_stochseg.tasks import BraTS
from monai_stochseg.transforms import LoadCased, NormalizeAboveMean

HALVES = (0.5, 0.25, 0.25)


def test_cases_by_part(brains) -> None:
    task = BraTS(brains, split_fractions=HALVES)
    parts = {part: [case["patient"] for case in task.cases(part)] for part in ("train", "validation", "test", "all")}
    assert {part: len(cases) for part, cases in parts.items()} == {"train": 2, "validation": 1, "test": 1, "all": 4}
    assert sorted(chain(parts["train"], parts["validation"], parts["test"])) == sorted(parts["all"])
    drawn_again = [case["patient"] for case in BraTS(brains, split_fractions=HALVES).cases("train")]
    assert drawn_again == parts["train"]


def test_a_folder_is_listed_once(brains, monkeypatch) -> None:
    """A listing reads the headers of all patients' files; with and without labels are two listings."""
    asked = []

    def spy(*args, require_label=True):
        asked.append(require_label)
        return brats_datalist(*args, require_label=require_label)

    monkeypatch.setattr("monai_stochseg.tasks.brats.brats_datalist", spy)
    task = BraTS(brains, split_fractions=HALVES)
    for part in ("train", "validation", "test", "all"):
        task.cases(part).clear()  # the caller's own list
        assert task.cases(part)
    assert (task.num_raters, task.num_raters) == (4, 4)
    task.training()
    assert asked == [True, False]


def test_an_earlier_split_is_read(brains, tmp_path) -> None:
    names = [case["patient"] for case in brats_datalist(brains)]
    (tmp_path / "split.json").write_text(json.dumps({"train": names[3:], "validation": names[:2], "test": names[2:3]}))
    task = BraTS(brains, split_file=tmp_path / "split.json")
    assert [case["patient"] for case in task.cases("validation")] == names[:2]
    assert len(task.cases("all")) == 4


@pytest.mark.parametrize(
    ("options", "part", "message"),
    [
        ({}, "vaildation", r"part must be one of \('train', 'validation', 'test', 'all'\), got 'vaildation'"),
        ({"split_fractions": (0.5, 0.0, 0.5)}, "validation", "part 'validation' is empty: .* none of the cases in"),
    ],
)
def test_a_wrong_part_is_named(brains, options, part, message) -> None:
    with pytest.raises(CaseError, match=message):
        BraTS(brains, **options).cases(part)


def test_an_unknown_region_is_named(brains) -> None:
    with pytest.raises(ValueError, match=r"regions must be of \['WT', .*\], got 'ED'"):
        BraTS(brains, regions=["ET", "ED"])


def test_what_networks_are_built_from(brains) -> None:
    whole, patches = BraTS(brains), BraTS(brains, modalities=["t2"], patch_size=(16, 16, 16))
    assert (whole.spatial_dims, whole.in_channels, whole.num_classes, whole.num_raters) == (3, 4, 4, 4)
    assert patches.in_channels == 1
    assert (whole.mask_key, whole.ignore_index) == (None, None)
    assert (patches.mask_key, patches.ignore_index) == ("mask", 255)
    assert whole.simulated
    assert whole.inferer() is None
    assert isinstance(patches.inferer(), SlidingWindowInferer)


def test_the_signature_is_of_what_a_network_was_trained_for(brains) -> None:
    task = BraTS(brains, modalities=["t2", "t1c"])
    assert task.signature == {
        "task": "BraTS",
        "spatial_dims": 3,
        "channel_names": ["t2", "t1c"],
        "class_names": list(BRATS_CLASSES),
    }
    assert BraTS(brains, ["t1c", "t2"]).signature != task.signature
    assert BraTS("elsewhere", ["t2", "t1c"], roi_size=(8, 8, 8)).signature == task.signature


def test_patches_carry_raters_without_what_lies_outside_the_brain(brains) -> None:
    task = BraTS(brains, patch_size=(16, 16, 16), label_size=(8, 8, 8), patches_per_image=3, split_fractions=HALVES)
    dataset = task.dataset("train", task.training().set_random_state(0))
    values = set()
    for patch in chain(*dataset):
        assert patch.keys() == {"image", "label"}
        assert patch["image"].shape == (4, 16, 16, 16)
        assert patch["label"].shape == (4, 8, 8, 8)
        values |= set(patch["label"].unique().tolist())
        # a void voxel is one outside the brain, where the image is 0
        middle = patch["image"][:, 4:12, 4:12, 4:12]
        assert torch.equal((patch["label"] == 255).all(0), (middle == 0).all(0))
    assert 255 in values
    assert values <= {0, 1, 2, 3, 255}


def test_training_reaches_the_border_of_the_brain(brains) -> None:
    """With labels smaller than the patch, as without padding, each voxel of the brain can be a label."""
    sizes = {"patch_size": [16] * 3, "label_size": [4] * 3, "patches_per_image": 200}
    task = BraTS(brains, split_fractions=(1.0, 0.0, 0.0), **sizes)
    patches = task.dataset("train", task.training().set_random_state(0))[0]
    corner = np.min([patch["label"].affine[:3, 3].numpy() for patch in patches], axis=0)
    assert (corner < 5).all(), f"no label nearer to the border than {corner}"


def test_an_evaluation_sees_the_whole_volume_and_its_mask(brains) -> None:
    task = BraTS(brains, patch_size=(16, 16, 16), split_fractions=HALVES)
    case = task.dataset("test", task.evaluation())[0]
    assert case["label"].shape[1:] == case["image"].shape[1:] == case["mask"].shape[1:]
    unlabelled = task.dataset("test", task.evaluation(with_label=False), require_label=False)[0]
    assert "label" not in unlabelled
    assert torch.equal(unlabelled["image"], case["image"])


@pytest.mark.parametrize("patch_size", [None, (16, 16, 16)])
def test_raters_that_vary_are_padded_with_weight_0(brains, tmp_path, patch_size) -> None:
    copy = tmp_path / "brains"
    shutil.copytree(brains, copy)
    for i, case in enumerate(brats_datalist(copy)):
        for file in case["label"][1 + i :]:
            Path(file).unlink()
    task = BraTS(copy, roi_size=(24, 24, 24), patch_size=patch_size)
    assert task.num_raters == 4
    for i, case in enumerate(task.dataset("all", task.evaluation())):
        assert case["label"].shape[0] == 4
        assert case["rater_weights"].tolist() == [1.0] * (i + 1) + [0.0] * (3 - i)
        assert not case["label"][i + 1 :].any()
    trained = task.dataset("all", task.training())[0]
    for patch in trained if patch_size else [trained]:
        assert patch["rater_weights"].tolist() == [1, 0, 0, 0]
    assert "rater_weights" not in BraTS(brains).dataset("all", BraTS(brains).evaluation())[0]


def test_augmentation_moves_image_and_label_together(brains) -> None:
    """Of a ball that is marked in both, turned about the body's axis, which is the first."""
    ball = torch.zeros(1, 9, 24, 24)
    ball[:, 2:5, 14:20, 10:14] = 1
    transform = Compose(BraTS(brains).augmentation()).set_random_state(1)
    turned = 0
    for _ in range(20):
        moved = transform({"image": MetaTensor(ball.clone()), "label": MetaTensor(ball.clone())})
        assert ((moved["image"] > 0.5) == (moved["label"] > 0)).float().mean() > 0.99
        assert moved["label"].unique().tolist() == [0, 1]
        assert moved["label"][0].flatten(1).any(1).nonzero().flatten().tolist() == [2, 3, 4]
        turned += int(not torch.equal(moved["label"].as_tensor(), ball))
    assert 5 < turned < 15
    assert BraTS(brains, patch_size=(16, 16, 16)).augmentation() == []


def test_draws_from_the_simulations_truth_follow_the_raters(brains) -> None:
    task = BraTS(brains, roi_size=(24, 24, 24), split_fractions=HALVES)
    drawn = task.with_truth(5)
    own, more = (each.dataset("test", each.evaluation())[0]["label"] for each in (task, drawn))
    assert more.shape[0] == 4 + 5
    assert torch.equal(more[:4], own)
    assert more[4:].any()


def test_real_data_have_no_truth(tmp_path) -> None:
    assert BraTS(tmp_path).with_truth(3) is None


def test_intensities_are_those_within_the_brain(brains, tmp_path) -> None:
    """Also of a normalised image, whose background is not zero and whose brain is in the file of its mask."""
    files = {"flair": "Flair", "t1": "T1", "t1c": "T1c", "t2": "T2"}
    for case in brats_datalist(brains):
        folder = tmp_path / f"{case['patient']}_0"
        folder.mkdir()
        for name, file in zip(files.values(), case["image"], strict=True):
            image = nib.load(file)
            voxels = image.get_fdata()
            normalised = nib.Nifti1Image((voxels - 300) / 50, image.affine)
            nib.save(normalised, folder / f"{name}_subtrMeanDivStd.nii.gz")
        mask = nib.Nifti1Image((LoadCased()(case)["mask"][0].numpy()), image.affine)
        nib.save(mask, folder / "brainmask.nii.gz")
    for patch_size in (None, (16, 16, 16)):
        options = {"roi_size": (24, 24, 24), "patch_size": patch_size}
        ours, theirs = (
            task.dataset("all", task.evaluation(with_label=False), require_label=False)
            for task in (BraTS(tmp_path, **options), BraTS(brains, **options))
        )
        for one, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(one["image"].as_tensor(), other["image"].as_tensor(), atol=1e-3, rtol=1e-3)


def test_the_bright_tissue_sets_the_intensities(brains) -> None:
    """
    From the volume as it lies in the file, background included: the crop to the brain, which comes after, would raise
    the mean.
    """
    patched = {"patch_size": (8, 8, 8), "modalities": ["flair", "t2"]}
    task = BraTS(brains, **patched, normalization="above_mean")
    first = task.cases("all")[0]
    case, raw = Compose(task.load())(first), LoadCased()(first)
    expected = NormalizeAboveMean()(raw["image"], raw["mask"])[:, raw["mask"][0] > 0]
    found = case["image"][:, case["mask"][0] > 0]
    torch.testing.assert_close(found.sort().values.as_tensor(), expected.sort().values.as_tensor())
    assert (case["image"][:, case["mask"][0] == 0] == 0).all()
    assert task.signature == {**BraTS(brains, **patched).signature, "normalization": "above_mean"}
    assert len(task.with_truth(2).after_reading) == 2
    with pytest.raises(ValueError, match="normalization"):
        BraTS(brains, normalization="bright")


def test_whole_volumes_are_augmented_before_patches_are_taken(brains) -> None:
    task = BraTS(brains, patch_size=(8, 8, 8))
    order = [type(t).__name__ for t in task.training(whole=[RandFlipd(("image", "label", "mask"), 1.0)]).transforms]
    assert order.index("CropForegroundd") < order.index("RandFlipd") < order.index("MaskLabeld")
    task = BraTS(brains, roi_size=(16, 16, 16))
    order = [type(t).__name__ for t in task.training(whole=[RandFlipd(("image", "label"), 1.0)]).transforms]
    assert order.index("ResizeWithPadOrCropd") < order.index("RandFlipd") < order.index("RandRotated")
