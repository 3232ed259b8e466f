# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from monai.transforms import CenterSpatialCropd, Compose

from monai_stochseg.data import CaseError
from monai_stochseg.data.lidc import load_manifest
from monai_stochseg.data.lidc.crops import LIDCCrop
from monai_stochseg.data.lidc.crops_folder import write_crops
from monai_stochseg.distributions import with_weights
from monai_stochseg.tasks import LIDC


def crops(spatial_dims: int = 2, size: int = 8, split: bool = False) -> list[LIDCCrop]:
    """A crop a part: air, and 400 HU where the first reader drew."""
    found = []
    for part, patients in load_manifest("kohl").parts.items():
        label = np.zeros((4, *[size] * spatial_dims), bool)
        label[:2, 2:5] = True
        image = np.where(label[0], 400, -1000)
        drawn, spacing = label.reshape(4, -1).any(1), (0.5,) * spatial_dims
        found.append(
            LIDCCrop(f"{patients[0]}_0", patients[0], image, label, drawn, spacing, split=part if split else None)
        )
    return found


def test_parts_are_those_of_the_manifest(crops_folder) -> None:
    task = LIDC(crops_folder)
    for part, number in {"train": 8, "validation": 2, "test": 6}.items():
        dataset = task.dataset(part, task.evaluation())
        assert {case["patient"] for case in dataset} == set(load_manifest("kohl").parts[part][:number])
        assert dataset[0]["image"].shape == (1, 16, 16)
        assert dataset[0]["label"].shape == (4, 16, 16)
    assert len(task.cases("all")) == 16


def test_a_split_that_came_with_the_data(tmp_path) -> None:
    write_crops(iter(crops(split=True)), tmp_path / "crops", {})
    task = LIDC(tmp_path / "crops", None)
    assert [len(task.cases(part)) for part in ("train", "validation", "test", "all")] == [1, 1, 1, 3]
    assert not task.simulated


@pytest.mark.parametrize(
    ("options", "part", "message"),
    [
        ({"manifest": None}, "train", r"came without a split: give a manifest, one of \('kohl'"),
        ({"manifest": "koala"}, "train", "'koala' is none of"),
        ({}, "tests", r"part must be one of \('train', 'validation', 'test', 'all'\), got 'tests'"),
        ({"manifest": "svls"}, "test", "part 'test' is empty"),
        ({"spatial_dims": 3}, "train", "holds 2D crops, but spatial_dims is 3"),
    ],
)
def test_bad_input(crops_folder, options, part, message) -> None:
    with pytest.raises(CaseError, match=message):
        LIDC(crops_folder, **options).cases(part)


def test_crops_without_a_split_are_judged_as_a_whole(crops_folder) -> None:
    assert len(LIDC(crops_folder, None).cases("all")) == 16


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_augmentation_keeps_image_and_masks_together(crops_folder, spatial_dims) -> None:
    """Of a voxel that is marked in both; in 3D the quarter turns are axial."""
    task = LIDC(crops_folder, spatial_dims=spatial_dims)
    transform = Compose(task.augmentation()).set_random_state(0)
    places = set()
    for _ in range(60):
        image, label = torch.zeros(1, *[4] * spatial_dims), torch.zeros(4, *[4] * spatial_dims)
        image[:, 0, 1], label[:, 0, 1] = 1, 1
        moved = transform({"image": image, "label": label})
        assert (moved["label"] == moved["image"]).all()
        places.add(tuple(moved["image"].nonzero()[0].tolist()[1:3]))
    assert len(places) == 8  # all symmetries of a square: the voxel is off its diagonals


def test_transforms_of_an_evaluation_act_on_image_and_masks(crops_folder) -> None:
    task = LIDC(crops_folder)
    case = task.dataset("test", task.evaluation([CenterSpatialCropd(["image", "label"], (8, 8))]))[0]
    assert (case["image"].shape, case["label"].shape) == ((1, 8, 8), (4, 8, 8))


def test_the_window_is_in_hounsfield_units(tmp_path) -> None:
    """Crops are -1000 HU, and 400 inside: 0.4 of the window from -1000 to 1000."""
    write_crops(iter(crops()), tmp_path / "crops", {})
    task = LIDC(tmp_path / "crops", window=(-1000, 1000))
    torch.testing.assert_close(
        task.dataset("test", task.evaluation())[0]["image"].unique().as_tensor(), torch.tensor([-1.0, 0.4])
    )


def test_sizes_are_padded_for_a_network_that_needs_it(tmp_path) -> None:
    """By air and background; of cases without a label too."""
    write_crops(iter(crops(3, 10)), tmp_path / "crops", {})
    task = LIDC(tmp_path / "crops", spatial_dims=3, size_divisible=8)
    case = task.dataset("test", task.evaluation())[0]
    assert (case["image"].shape, case["label"].shape) == ((1, 16, 16, 16), (4, 16, 16, 16))
    assert case["image"][0, 0, 0, 0] == -1
    assert not case["label"][:, 0].any()
    unlabelled = task.dataset("test", task.evaluation(with_label=False), require_label=False)[0]
    assert torch.equal(unlabelled["image"], case["image"])
    assert "label" not in unlabelled


def test_the_figure_says_where_the_ct_is_simulated(crops_folder, tmp_path) -> None:
    write_crops(iter(crops()), tmp_path / "real", {})
    assert LIDC(crops_folder).figure["title"] == "simulated CT"
    assert LIDC(tmp_path / "real").figure["title"] is None


def test_the_log_has_the_id_of_the_split(crops_folder) -> None:
    assert LIDC(crops_folder).parameters["manifest"] == load_manifest("kohl").id
    assert LIDC(crops_folder, None).parameters["manifest"] is None


def test_the_signature_tells_dimensions_apart(crops_folder) -> None:
    assert LIDC(crops_folder).signature["class_names"] == ["background", "nodule"]
    assert LIDC(crops_folder).signature != LIDC(crops_folder, spatial_dims=3).signature


def test_raters_are_those_of_the_folder(crops_folder, tmp_path) -> None:
    assert LIDC(crops_folder).num_raters == 4
    six = [replace(crop, label=np.ones((6, 8, 8), bool), drawn=np.ones(6, bool)) for crop in crops()]
    write_crops(iter(six), tmp_path / "crops", {})
    task = LIDC(tmp_path / "crops")
    assert task.num_raters == 6
    assert task.dataset("train", task.evaluation())[0]["label"].shape == (6, 8, 8)


def test_an_evaluation_judges_the_single_answer_against_each_reader_and_calibration(tmp_path) -> None:
    write_crops(crops(), tmp_path / "crops", {})
    task = LIDC(tmp_path / "crops")
    names = task.evaluation_metric_names
    assert [name for name in names if "mode" in name] == [
        "mode_dice", "mode_dice_nonempty", *(f"mode_dice_rater{rater}" for rater in range(4))
    ]  # fmt: skip
    assert {"case_dice", "ambiguity", "diversity_correlation", "empty_correlation", "ece", "ece_foreground"} <= {*names}
    metrics = {name: task.metric(name) for name in names}
    dice, foreground, ambiguity = task.evaluation_figures(metrics, str(tmp_path), "test", "model")
    assert dice.filename == tmp_path / "case_dice_test.png"
    assert foreground.filename == tmp_path / "reliability_foreground_test.png"
    assert (ambiguity.filename, ambiguity.rows) == (tmp_path / "ambiguity_test.png", None)
    assert not task.evaluation_figures({"ged": metrics["ged"]}, str(tmp_path), "test", "model")


def test_two_empty_maps_as_a_miss(tmp_path) -> None:
    """By an option of the task: of two readers who drew nothing and a sample of nothing."""
    write_crops(crops(), tmp_path / "crops", {})
    empty = torch.zeros(2, 8, 8, dtype=torch.uint8)
    values = {}
    for option in ("agree", "miss"):
        task = LIDC(tmp_path / "crops", empty=option)
        for name in ("hm_iou", "diversity"):
            metric, output_transform = task.metric(name)
            y_pred, y = output_transform([{"samples": empty[:1], "label": empty}])
            metric(y_pred, y)
            values[option, name] = metric.aggregate().item()
    assert values == {
        ("agree", "hm_iou"): 1,
        ("agree", "diversity"): 0,
        ("miss", "hm_iou"): 0,
        ("miss", "diversity"): 1,
    }
    with pytest.raises(ValueError, match="empty"):
        LIDC(tmp_path / "crops", empty="full")


def test_entropies_by_name(tmp_path) -> None:
    """Of a nodule of probability 1/2 in a quarter of the pixels, and of weights 1/4 and 3/4."""
    write_crops(crops(), tmp_path / "crops", {})
    task = LIDC(tmp_path / "crops")
    p = torch.zeros(2, 2, 2)
    p[0] = 1
    p[:, 0, 0] = 0.5
    samples = with_weights(torch.zeros(2, 2, 2, dtype=torch.uint8), torch.tensor([0.25, 0.75]))
    output = [{"probabilities": p, "samples": samples, "label": torch.zeros(4, 2, 2)}]
    for name, expected in (("entropy", math.log(2) / 4), ("weight_entropy", 2 * math.log(2) - 0.75 * math.log(3))):
        metric, output_transform = task.metric(name)
        y_pred, y = output_transform(output)
        metric(y_pred, y)
        assert metric.aggregate().item() == pytest.approx(expected)
