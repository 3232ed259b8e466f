# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.transforms import Compose

from monai_stochseg.data import CITYSCAPES_CLASSES, CITYSCAPES_SWITCHED_CLASSES, CaseError
from monai_stochseg.distributions import with_weights
from monai_stochseg.tasks import Cityscapes

SIZES = {"spatial_size": (32, 64), "crop_size": (24, 24)}


def test_cases_by_part(streets) -> None:
    task = Cityscapes(streets, **SIZES)
    parts = {part: {case["patient"] for case in task.cases(part)} for part in ("train", "validation", "test", "all")}
    assert parts["train"] | parts["validation"] | parts["test"] == parts["all"]
    assert sum(len(parts[part]) for part in ("train", "validation", "test")) == len(parts["all"]) == 8
    with pytest.raises(CaseError, match=r"part must be one of .*, got 'tests'"):
        task.cases("tests")


def test_an_empty_part_is_named(streets, monkeypatch) -> None:
    task = Cityscapes(streets, **SIZES)
    monkeypatch.setattr(task, "split", lambda datalist: {"train": datalist, "validation": [], "test": []})
    with pytest.raises(CaseError, match="part 'validation' is empty"):
        task.cases("validation")


@pytest.mark.parametrize("all_modes", [True, False])
def test_a_training_sees_all_modes_or_one_draw_and_an_evaluation_all(streets, all_modes) -> None:
    task = Cityscapes(streets, **SIZES, all_modes=all_modes)
    trained, judged = (task.dataset("train", t)[0] for t in (task.training(), task.evaluation()))
    assert trained["label"].shape == (32 if all_modes else 1, 24, 24)
    assert ("rater_weights" in trained) == all_modes
    assert judged["label"].shape == (32, 32, 64)
    torch.testing.assert_close(torch.as_tensor(judged["rater_weights"]).sum(), torch.tensor(1.0))
    assert task.num_raters == 32


def test_augmentation_moves_image_and_label_together(streets) -> None:
    label = torch.zeros(1, 40, 60)
    label[:, :, 30:] = 1
    label[:, 30:] = 2
    shapes, mirrored = set(), 0
    task = Cityscapes(streets, (40, 60), (24, 40), (0.7, 1.0))
    for seed in range(20):
        transform = Compose(task.augmentation()).set_random_state(seed)
        data = transform({"image": label.clone(), "label": label.clone()})
        shapes.add(tuple(data["label"].shape))
        assert set(data["label"].unique().tolist()) <= {0, 1, 2}
        assert (data["image"].round() == data["label"]).float().mean() > 0.85
        mirrored += int(data["label"][0, 0, 0] > data["label"][0, 0, -1])
    assert shapes == {(1, 24, 40)}
    assert 0 < mirrored < 20


def test_channels_of_another_models_predictions(streets, tmp_path) -> None:
    assert Cityscapes(streets, **SIZES).in_channels == 3
    np.save(tmp_path / "aachen_000000_000019.npy", np.zeros((19, 4, 8), np.uint8))
    task = Cityscapes(streets, **SIZES, predictions_dir=tmp_path)
    assert task.in_channels == 22
    assert task.signature["channel_names"][:4] == ["red", "green", "blue", "prediction 0"]
    np.save(tmp_path / "aachen_000000_000019.npy", np.zeros((4, 8), np.uint8))
    task = Cityscapes(streets, **SIZES, predictions_dir=tmp_path)
    assert task.signature["channel_names"][3:] == [f"prediction of {name}" for name in CITYSCAPES_CLASSES]
    with pytest.raises(CaseError, match="no_folder holds no prediction"):
        Cityscapes(streets, **SIZES, predictions_dir="no_folder")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crop_size": (64, 64)}, r"crop_size \[64, 64\] does not fit into a scene of \[32, 64\] scaled by 0.75"),
        ({"crop_size": (24, 24), "scale": (0.9, 0.5)}, r"scale must be the lowest and the highest factor"),
        ({"crop_size": (24, 24), "scale": (0.0, 1.0)}, r"scale must be the lowest and the highest factor"),
    ],
)
def test_sizes_that_do_not_fit_are_named(streets, options, message) -> None:
    with pytest.raises(ValueError, match=message):
        Cityscapes(streets, (32, 64), **options)


def test_what_networks_are_built_from(streets) -> None:
    task = Cityscapes(streets, **SIZES)
    assert (task.spatial_dims, task.num_classes, task.ignore_index) == (2, len(CITYSCAPES_SWITCHED_CLASSES), 255)
    assert task.simulated
    assert task.figure["title"] == "simulated streets"
    assert len(task.figure["colours"]) == task.num_classes


@pytest.mark.parametrize("name", Cityscapes.metric_names)
def test_each_metric_takes_an_evaluators_output(streets, name) -> None:
    task = Cityscapes(streets, **SIZES)
    label = task.dataset("test", task.evaluation())[0]["label"].as_tensor()
    metric, output_transform = task.metric(name)
    y_pred, y = output_transform([{"samples": label[:4].to(torch.uint8), "label": label}])
    metric(y_pred=y_pred, y=y)
    assert torch.as_tensor(metric.aggregate()).isfinite().all()
    with pytest.raises(ValueError, match=r"metrics must be of .* got 'geed'"):
        task.metric("geed")


@pytest.mark.parametrize("name", ["brier", "ece", "ece_switched", "ece_switched_answer", "ece_top", "entropy"])
def test_void_voxels_are_left_out(streets, name) -> None:
    """Of a label whose left half is void: the value is that of the right half."""
    task = Cityscapes(streets, **SIZES)
    label = torch.zeros(2, 4, 6, dtype=torch.uint8)
    label[1, 1] = 3
    probabilities = torch.rand(task.num_classes, 4, 6).softmax(0)
    void = label.clone()
    void[:, :, :3] = 255
    weights = torch.tensor([0.25, 0.75])
    values = []
    for voxels, y in ((slice(None), void), (slice(3, None), label), (slice(None), label)):
        p, y = probabilities[..., voxels], with_weights(y[..., voxels], weights)
        metric, output_transform = task.metric(name)
        y_pred, y = output_transform([{"pred": p, "probabilities": p, "label": y}])
        metric(y_pred=y_pred, y=y)
        values.append(float(metric.aggregate()))
    assert values[0] == pytest.approx(values[1])
    assert values[0] != pytest.approx(values[2])


def test_the_true_distribution_is_the_mean_of_the_modes(streets) -> None:
    """In a training too, whose crop and switches it follows."""
    task = Cityscapes(streets, **SIZES, true_distribution=True)
    assert task.in_channels == 3 + task.num_classes
    for transform in (task.training(), task.evaluation()):
        case = task.dataset("train", transform)[0]
        label, weights = case["label"].as_tensor(), torch.as_tensor(case["rater_weights"])
        given, known = case["image"].as_tensor()[3:], label[0] != task.ignore_index
        for k in range(task.num_classes):
            mean = ((label == k) * weights[:, None, None]).sum(0)
            torch.testing.assert_close(given[k][known], mean[known])
        assert torch.allclose(given[:, ~known], torch.tensor(1 / task.num_classes))
    with pytest.raises(ValueError, match="true_distribution=True needs labels"):
        task.evaluation(with_label=False)


def test_calibration_of_the_switched_classes(streets) -> None:
    """By hand: a pixel of road that becomes another in a quarter of the weights, and void beside it."""
    task = Cityscapes(streets, **SIZES)
    p = torch.zeros(task.num_classes, 1, 2)
    p[0], p[23] = 0.6, 0.4
    label = with_weights(torch.tensor([[[0, 255]], [[23, 255]]]), torch.tensor([0.75, 0.25]))
    output = [{"probabilities": p, "pred": p, "label": label}]
    for name in ("ece_switched", "ece_switched_answer"):
        metric, output_transform = task.metric(name)
        y_pred, y = output_transform(output)
        metric(y_pred=y_pred, y=y)
        assert float(metric.aggregate()) == pytest.approx((0.15 + 0.15) / 10)


def test_calibration_of_the_most_probable_class(streets, tmp_path) -> None:
    """
    By hand: road at 0.6, which is right in 3/4 of the weights; void; and a building, which is none of the classes. The
    gap of 0.15 is that of one pixel, or of three.
    """
    task = Cityscapes(streets, **SIZES)
    p = torch.zeros(task.num_classes, 1, 3)
    p[0], p[23] = 0.6, 0.4
    p[:, 0, 2] = 0
    p[2, 0, 2] = 1
    label = with_weights(torch.tensor([[[0, 255, 3]], [[23, 255, 3]]]), torch.tensor([0.75, 0.25]))
    chosen = {name: task.metric(name) for name in ("ece_top_all", "ece_top")}
    (figure,) = task.evaluation_figures(chosen, str(tmp_path), "test", "model")  # before any case is met
    for (name, (metric, output_transform)), voxels in zip(chosen.items(), (3, 1), strict=True):
        y_pred, y = output_transform([{"probabilities": p, "label": label}])
        metric(y_pred=y_pred, y=y)
        assert float(metric.aggregate()) == pytest.approx(0.15 / voxels), name
    assert figure.filename == tmp_path / "reliability_top_test.png"
    assert "(ECE 0.1500)" in figure.draw().legends[0].get_texts()[0].get_text()
