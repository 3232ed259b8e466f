# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from own_folders import nifti_folder, raster_folder

from monai_stochseg.data import CaseError, RaterLayout
from monai_stochseg.tasks import IntensityOptions, RaterFolder, SplitOptions, VolumeOptions

RASTERS = RaterLayout("images/{case}.png", "readers/{rater}/{case}.png", known_raters=True, label_map={0: 0, 255: 1})
HALVES = SplitOptions((0.5, 0.25, 0.25))


def raster_task(root: Path, **options) -> RaterFolder:
    given = {
        "volume": VolumeOptions(None, patch_size=[16, 16], patches_per_image=2, size_divisible=8),
        "intensity": IntensityOptions("window", [0, 255]),
        "split": HALVES,
        **options,
    }
    return RaterFolder(root, RASTERS, ["red", "green", "blue"], ["background", "cell"], 2, **given)


def volume_task(root: Path, **options) -> RaterFolder:
    volume = VolumeOptions([16, 16, 8], [1.0, 1.0, 2.0], [16, 16, 8], patches_per_image=2)
    return RaterFolder(root, RaterLayout(), ["t1"], ["background", "rim", "core"], 3, volume, split=HALVES, **options)


def test_images_as_a_whole_are_padded_and_keep_their_raters(tmp_path) -> None:
    task = raster_task(raster_folder(tmp_path))
    assert (task.in_channels, task.num_classes, task.num_raters) == (3, 2, 3)
    assert task.rater_names == ("Ada", "Bob", "Cid")
    assert task.inferer() is None
    shapes = set()
    for case in task.dataset("all", task.evaluation()):
        shapes.add(tuple(case["image"].shape))
        assert case["label"].shape == (3, *case["image"].shape[1:])
        assert 0 <= case["image"].min() < case["image"].max() <= 1
    assert shapes == {(3, 24, 24), (3, 32, 24)}  # of 24, 28 and 32 x 20


def test_patches_of_2d_images_of_different_sizes_share_a_batch(tmp_path) -> None:
    task = raster_task(raster_folder(tmp_path), volume=VolumeOptions(None, patch_size=[40, 16], patches_per_image=2))
    for case in task.dataset("train", task.training()):
        for patch in case:
            assert patch["image"].shape == (3, 40, 16)  # the images are smaller: they are padded
            assert patch["label"].shape == (3, 40, 16)
            assert patch["rater_weights"].shape == (3,)


def test_volumes_are_resampled_and_turned(tmp_path) -> None:
    task = volume_task(nifti_folder(tmp_path))
    assert task.num_raters == 4
    assert task.rater_names is None
    first, second = (task.dataset("all", task.evaluation())[i] for i in (0, 1))
    assert first["rater_weights"].tolist() == [1, 1, 1, 0]
    assert second["rater_weights"].tolist() == [1, 1, 1, 1]
    assert second["image"].pixdim.tolist() == pytest.approx([1, 1, 2])
    assert second["image"].shape[1] == 22  # of 20 at 1.1 mm
    assert float(first["image"].mean()) == pytest.approx(0, abs=1e-4)
    assert task.inferer().roi_size == [16, 16, 8]


def test_augmentation_moves_image_and_label_alike(tmp_path) -> None:
    task = raster_task(raster_folder(tmp_path))
    case = task.dataset("train", task.evaluation())[0]
    for transform in task.augmentation():
        transform.set_random_state(3)
        case = transform(case)
    bright = case["image"][0] > case["image"][0].mean()
    overlap = (bright & (case["label"][0] > 0)).sum() / (case["label"][0] > 0).sum()
    assert overlap > 0.8


def test_a_case_that_the_plan_knows_must_be_there(tmp_path) -> None:
    root = raster_folder(tmp_path / "mine", 4)
    planned = {"dataset_dir": str(root), "cases": [f"p{number}" for number in range(4)]}
    assert len(raster_task(root, planned=planned).cases("all")) == 4
    other = raster_folder(tmp_path / "other", 2)
    assert len(raster_task(other, planned=planned).cases("all")) == 2  # the plan is of another folder
    (root / "images" / "p2.png").unlink()
    for reader in ("Ada", "Bob"):
        (root / "readers" / reader / "p2.png").unlink()
    with pytest.raises(CaseError, match=r"case p2 was there when the plan was made"):
        raster_task(root, planned=planned).cases("all")


def test_images_without_masks(tmp_path) -> None:
    root = raster_folder(tmp_path)
    shutil.rmtree(root / "readers")
    task = raster_task(root)
    case = task.dataset("all", task.evaluation(with_label=False), require_label=False)[0]
    assert "label" not in case


def test_the_answer_of_a_missing_reader_counts_for_nothing(tmp_path) -> None:
    task = raster_task(raster_folder(tmp_path))
    case = task.dataset("all", task.evaluation())[0]  # Cid did not read it
    metric = task.metric("ged").metric
    samples = case["label"].as_tensor()[None, :2]
    value = metric(samples, case["label"].as_tensor()[None], y_weights=case["rater_weights"][None])
    assert float(torch.as_tensor(value)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: IntensityOptions("window"), "window must be the lowest and the highest value, got None"),
        (lambda: IntensityOptions("max"), "max"),
        (lambda: VolumeOptions(None), "roi_size or patch_size must be given"),
        (lambda: raster_task(Path("x"), volume=VolumeOptions([8, 8])), "patch_size must have 2 axes, got None"),
        (
            lambda: raster_task(Path("x"), volume=VolumeOptions(None, patch_size=[8, 8, 8])),
            "patch_size must have 2 axes",
        ),
    ],
)
def test_options_that_cannot_be(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
