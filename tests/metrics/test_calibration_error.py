# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from ignite.engine import Engine
from monai.handlers import IgniteMetricHandler, from_engine
from monai.metrics import CalibrationErrorMetric
from torch import distributed, multiprocessing

from monai_stochseg.metrics.calibration_error import (
    ExpectedCalibrationErrorMetric,
    ItemCalibrationErrorMetric,
    compute_calibration_bins,
    expected_calibration_error,
)


def maps(*rows: list[int]) -> torch.Tensor:
    """Label maps ``[1, K, 1, V]`` of one item."""
    return torch.tensor(rows)[None, :, None]


def foreground(*p: float) -> torch.Tensor:
    """Probabilities ``[1, 2, 1, V]`` of one item."""
    return torch.tensor([[[[1 - x for x in p]], [list(p)]]])


P = foreground(0.3, 0.9, 0.8, 0.0)


@pytest.mark.parametrize(
    ("y", "options", "expected"),
    [
        # confidences 0.7, 0.9, 0.8, 1.0; the first two bins of five hold none, (0.6, 0.8] two, (0.8, 1] two
        (maps([0, 1, 1, 0]), {}, [[0, 0, 0], [0, 0, 0], [0, 0, 0], [2, 1.5, 2], [2, 1.9, 2]]),
        (maps([1, 0, 1, 0]), {}, [[0, 0, 0], [0, 0, 0], [0, 0, 0], [2, 1.5, 1], [2, 1.9, 1]]),
        (maps([1, 0, 1, 0]), {"kind": "class"}, [[1, 0, 0], [1, 0.3, 1], [0, 0, 0], [1, 0.8, 1], [1, 0.9, 0]]),
        (
            maps([1, 0, 1, 0], [0, 0, 1, 1]),
            {"kind": "class"},
            [[1, 0, 0.5], [1, 0.3, 0.5], [0, 0, 0], [1, 0.8, 1], [1, 0.9, 0]],
        ),
        (
            maps([1, 0, 1, 0], [0, 0, 1, 1], [9] * 4),
            {"kind": "class", "y_weights": torch.tensor([[0.25, 0.75, 0.0]])},
            [[1, 0, 0.75], [1, 0.3, 0.25], [0, 0, 0], [1, 0.8, 1], [1, 0.9, 0]],
        ),
        (
            maps([1, 0, 1, 0], [0, 0, 1, 0]),
            {"kind": "class", "foreground_only": True},
            [[0, 0, 0], [1, 0.3, 0.5], [0, 0, 0], [1, 0.8, 1], [0, 0, 0]],
        ),
        (
            maps([255, 0, 1, 255]),
            {"mask": torch.tensor([[[[0, 1, 1, 0]]]])},
            [[0, 0, 0], [0, 0, 0], [0, 0, 0], [1, 0.8, 1], [1, 0.9, 0]],
        ),
        (
            foreground(0.4, 0.9, 0.7, 0.0),
            {"kind": "class", "soft_target": True, "foreground_only": True},
            [[0, 0, 0], [1, 0.3, 0.4], [0, 0, 0], [1, 0.8, 0.7], [1, 0.9, 0.9]],
        ),
        (
            foreground(0.4, 0.9, 0.7, 0.0),
            {"kind": "class", "soft_target": True, "class_index": 0, "foreground_only": True},
            [[2, 0.3, 0.4], [0, 0, 0], [0, 0, 0], [1, 0.7, 0.6], [0, 0, 0]],
        ),
    ],
)
def test_by_hand(y: torch.Tensor, options: dict, expected: list) -> None:
    bins = compute_calibration_bins(P, y, num_bins=5, **options)
    torch.testing.assert_close(bins, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-6)


@pytest.mark.parametrize("num_bins", [1, 3, 10, 15])
def test_limits_belong_to_the_bin_below(num_bins: int) -> None:
    limits = [i / num_bins for i in range(num_bins + 1)]
    bins = compute_calibration_bins(foreground(*limits), maps([1] * (num_bins + 1)), num_bins=num_bins, kind="class")
    assert bins[:, 0].tolist() == [2] + [1] * (num_bins - 1)


@pytest.mark.parametrize(
    ("bins", "expected"),
    [
        ([[2, 1.5, 1], [0, 0, 0], [2, 1.9, 2]], (0.5 + 0.1) / 4),
        ([[2, 1.5, 1.5]], 0),
        ([[0, 0, 0]], math.nan),
    ],
)
def test_error_by_hand(bins: list, expected: float) -> None:
    value = expected_calibration_error(torch.tensor(bins))
    torch.testing.assert_close(value, float(expected), equal_nan=True, rtol=0, atol=1e-6)


def _reference(p: torch.Tensor, f: torch.Tensor, num_bins: int) -> float:
    """Voxel by voxel, of confidences and accuracies."""
    error = 0.0
    for m in range(num_bins):
        low, high = m / num_bins, (m + 1) / num_bins
        inside = [(c, a) for c, a in zip(p.tolist(), f.tolist(), strict=True) if low < c <= high or c == m == 0]
        error += abs(sum(c - a for c, a in inside))
    return error / len(p)


@pytest.mark.parametrize("shape", [(6, 5), (4, 3, 5)])
def test_equals_the_definition(shape: tuple[int, ...]) -> None:
    p, y = torch.randn(3, 4, *shape).mul(2).softmax(1), torch.randint(4, (3, 2, *shape))
    frequency = F.one_hot(y, 4).movedim(-1, 2).float().mean(1)
    confidence, top = p.max(1)
    accuracy = frequency.gather(1, top[:, None])[:, 0]
    value = expected_calibration_error(compute_calibration_bins(p, y, num_bins=7))
    assert value == pytest.approx(_reference(confidence.flatten(), accuracy.flatten(), 7))
    value = expected_calibration_error(compute_calibration_bins(p, y, num_bins=7, kind="class", class_index=2))
    assert value == pytest.approx(_reference(p[:, 2].flatten(), frequency[:, 2].flatten(), 7))
    soft = compute_calibration_bins(p, frequency, num_bins=7, soft_target=True)
    torch.testing.assert_close(soft, compute_calibration_bins(p, y, num_bins=7))


def test_equals_monais_of_one_image_and_class() -> None:
    p, y = torch.randn(2, 3, 8, 8).softmax(1), torch.randint(3, (2, 1, 8, 8))
    one_hot = F.one_hot(y[:, 0], 3).movedim(-1, 1)
    monais = CalibrationErrorMetric(num_bins=10)(p, one_hot)
    for item in range(2):
        for c in range(3):
            one = slice(item, item + 1)
            bins = compute_calibration_bins(p[one], y[one], kind="class", class_index=c)
            assert expected_calibration_error(bins) == pytest.approx(monais[item, c].item(), abs=1e-6)


def test_calibrated_probabilities_have_no_error() -> None:
    frequency = F.one_hot(torch.randint(3, (2, 4, 6, 6)), 3).movedim(-1, 2).float().mean(1)
    for options in ({}, {"kind": "class"}):
        bins = compute_calibration_bins(frequency, frequency, soft_target=True, **options)
        assert expected_calibration_error(bins) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_bins": 0}, "num_bins must be at least 1, got 0"),
        ({"kind": "all"}, "all"),
        ({"kind": "class", "class_index": [0, 2]}, r"class_index must be of the 2 classes, got \[0, 2\]"),
        (
            {"kind": "class", "class_index": [1, 1]},
            r"or several different ones, got \[1, 1\]",
        ),
        ({"kind": "class", "class_index": []}, r"class_index must be a class, or several different ones, got \[\]"),
        ({"kind": "class", "class_index": 2}, r"class_index must be of the 2 classes, got \[2\]"),
        ({"classes": [0, 2]}, r"classes must be of the 2 classes, got \[0, 2\]"),
        ({"classes": []}, r"classes must be a class, or several different ones, got \[\]"),
        ({"classes": [1], "kind": "class"}, r'classes are of kind="top_label", got \[1\]: name those'),
        ({"soft_target": True, "y": P, "ignore_index": 255}, "ignore_index is a label, and a soft target has none"),
        ({"y": maps([255, 0, 1, 0]), "ignore_index": 254}, "y has label 255"),
        ({"y_pred": torch.ones(1, 2, 1, 4)}, "y_pred must hold probabilities that sum to 1"),
        ({"y": maps([0, 0, 2, 0])}, "y has label 2"),
        ({"y": maps([0, 0, 1, 0]) * 0.5}, "y must hold integer class labels, got 0.5"),
        ({"y": maps([0, 0, 1, 0])[:, :0]}, "y must be label maps .* none of its axes empty"),
        ({"y": maps([0, 1])}, "y_pred and y must agree"),
        ({"y": maps([1, 0, 0, 1], [0, 1, 1, 0])}, "y is one-hot: its 2 channels .* Give the classes"),
        ({"y_weights": torch.tensor([[0.0]])}, "y_weights must be .* one weight for each map"),
        ({"mask": torch.ones(1, 4)}, "mask must have shape"),
        ({"soft_target": True, "y": foreground(0.5, 0.5)}, "must have the shape of y_pred"),
        ({"soft_target": True, "y": 2 * P}, "y must hold probabilities that sum to 1"),
        ({"soft_target": True, "y": P, "y_weights": torch.ones(1, 1)}, "let y_weights be None"),
    ],
)
def test_rejects(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compute_calibration_bins(**{"y_pred": P, "y": maps([0, 1, 1, 0]), **options})


def test_raters_who_disagree_everywhere_are_not_one_hot() -> None:
    bins = compute_calibration_bins(P, maps([0] * 4, [1] * 4), num_bins=1)
    assert bins.tolist() == [[4, pytest.approx(3.4), 2]]


def test_rejects_what_are_no_bins() -> None:
    with pytest.raises(ValueError, match=r"bins must be \[num_bins, 3\] finite sums, none negative, got \(3,\)"):
        expected_calibration_error(torch.zeros(3))


def test_metric_pools_voxels_of_all_items() -> None:
    metric = ExpectedCalibrationErrorMetric(num_bins=5, kind="class")
    q = foreground(0.3, 0.7)
    metric([P[0], q[0]], [maps([1, 0, 1, 0])[0], maps([0, 0], [1, 0])[0]])
    metric(torch.cat([q, q]), torch.cat([maps([1, 1])] * 2), mask=torch.tensor([[[[1, 0]]], [[[0, 0]]]]))
    # in (0.2, 0.4]: 0.3, 0.3, 0.3 with 1, 1/2, 1; in (0.6, 0.8]: 0.8, 0.7 with 1, 0; 0.9 with 0; 0 with 0
    assert metric.bins()[:, 0].tolist() == [1, 3, 0, 2, 1]
    assert metric.bins().dtype == torch.float64
    torch.testing.assert_close(metric.aggregate().item(), (1.6 + 0.5 + 0.9) / 7, rtol=0, atol=1e-6)
    assert metric.get_buffer().shape == (4, len(metric.names))
    metric.reset()
    with pytest.raises(ValueError, match="nothing to aggregate"):
        metric.bins()


def test_metric_passes_its_options_on() -> None:
    options = {"num_bins": 4, "kind": "class", "class_index": 0, "foreground_only": True}
    y, weights = maps([0, 1, 1, 0], [0, 0, 1, 0]), torch.tensor([[0.3, 0.7]])
    metric = ExpectedCalibrationErrorMetric(**options)
    metric(P, y, y_weights=weights)
    torch.testing.assert_close(metric.bins(), compute_calibration_bins(P, y, **options, y_weights=weights))
    soft = ExpectedCalibrationErrorMetric(soft_target=True)
    soft(P, P.flip(1))
    torch.testing.assert_close(soft.bins(), compute_calibration_bins(P, P.flip(1), soft_target=True))
    with pytest.raises(ValueError, match="num_bins"):
        ExpectedCalibrationErrorMetric(num_bins=0)


def test_item_metric_is_the_error_of_each_item() -> None:
    p, y = torch.randn(3, 3, 6, 6).softmax(1), torch.randint(3, (3, 2, 6, 6))
    options = {"num_bins": 4, "kind": "class", "class_index": 2, "foreground_only": True}
    given = {
        "y_weights": torch.tensor([[0.3, 0.7]] * 3),
        "mask": torch.ones(3, 1, 6, 6).index_fill(0, torch.tensor(1), 0),
    }
    metric = ItemCalibrationErrorMetric(**options, get_not_nans=True)
    metric(list(p), list(y), **given)
    errors = [
        expected_calibration_error(
            compute_calibration_bins(
                p[[i]], y[[i]], **options, y_weights=given["y_weights"][[i]], mask=given["mask"][[i]]
            )
        )
        for i in range(3)
    ]
    assert metric.get_buffer()[:, 0].tolist() == pytest.approx(errors, nan_ok=True)
    assert math.isnan(errors[1])
    value, count = metric.aggregate()
    assert value.item() == pytest.approx((errors[0] + errors[2]) / 2)
    assert count.item() == 2
    soft = ItemCalibrationErrorMetric(soft_target=True)
    soft(p, p)
    assert soft.aggregate().item() == pytest.approx(0, abs=1e-6)
    with pytest.raises(ValueError, match="num_bins"):
        ItemCalibrationErrorMetric(num_bins=0)


def test_in_an_engine() -> None:
    batch = [
        {"probabilities": P[0], "label": maps([1, 0, 1, 0])[0].float()},
        {"probabilities": foreground(0.3, 0.7)[0], "label": maps([0, 0], [1, 0])[0]},
    ]
    engine = Engine(lambda _, items: items)
    metric = ExpectedCalibrationErrorMetric(num_bins=5, kind="class")
    handler = IgniteMetricHandler(metric_fn=metric, output_transform=from_engine(["probabilities", "label"]))
    handler.attach(engine, "ece")
    for _ in range(2):
        engine.run([batch])
        assert engine.state.metrics["ece"] == pytest.approx((0.9 + 0.5 + 0.9) / 6)


def _rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/init", rank=rank, world_size=2)
    metric = ExpectedCalibrationErrorMetric(num_bins=5, kind="class")
    for p, label in [[(0.3, 1)], [(0.3, 0), (0.4, 0)]][rank]:
        metric(foreground(p), maps([label]))
    torch.save(metric.aggregate(), f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


def test_over_processes(tmp_path: Path) -> None:
    """All three voxels share a bin: neither process has the error of the whole, nor have the two on average."""
    multiprocessing.start_processes(_rank, args=(str(tmp_path),), nprocs=2, start_method="fork")
    for rank in range(2):
        value = torch.load(tmp_path / f"{rank}.pt").item()
        assert value == pytest.approx(0, abs=1e-6)


def test_probabilities_with_gradients_are_taken() -> None:
    logits = torch.randn(1, 2, 4, 4, requires_grad=True)
    y = torch.zeros(1, 1, 4, 4)
    bins = compute_calibration_bins(logits.softmax(1), y)
    torch.testing.assert_close(bins, compute_calibration_bins(logits.detach().softmax(1), y))
    assert not bins.requires_grad


def test_labels_of_more_items_than_probabilities_are_refused() -> None:
    p, y = torch.full((1, 2, 4, 4), 0.5), torch.zeros(2, 1, 4, 4)
    for metric in (ExpectedCalibrationErrorMetric(), ItemCalibrationErrorMetric()):
        with pytest.raises(ValueError, match="y must agree with y_pred in all axes but the second"):
            metric(p, y)
        with pytest.raises(ValueError, match="mask must have one row for each of the 1 items of y_pred"):
            metric(p, y[:1], mask=torch.ones(2, 1, 4, 4))


def test_several_classes_share_the_bins() -> None:
    """By hand: of two voxels and classes 0 and 2, confidences 0.5, 0.2 and 0.1, 0.3; class 2 is right at the second."""
    p = torch.tensor([[[0.5, 0.2], [0.4, 0.5], [0.1, 0.3]]])
    bins = compute_calibration_bins(p, torch.tensor([[[1, 2]]]), num_bins=2, kind="class", class_index=[0, 2])
    torch.testing.assert_close(bins, torch.tensor([[4, 1.1, 1], [0, 0, 0]], dtype=torch.float64))
    masked = compute_calibration_bins(
        p, torch.tensor([[[1, 2]]]), num_bins=2, kind="class", class_index=[0, 2], mask=torch.tensor([[[0, 1]]])
    )
    torch.testing.assert_close(masked, torch.tensor([[2, 0.5, 1], [0, 0, 0]], dtype=torch.float64))
    parts = [compute_calibration_bins(p, torch.tensor([[[1, 2]]]), kind="class", class_index=c) for c in (0, 2)]
    both = ExpectedCalibrationErrorMetric(kind="class", class_index=[0, 2])
    both(p, torch.tensor([[[1, 2]]]))
    torch.testing.assert_close(both.bins(), sum(parts))


TOP = torch.tensor([[0.6, 0.1, 0.9, 0.2, 0.5], [0.3, 0.7, 0.1, 0.2, 0.1], [0.1, 0.2, 0.0, 0.6, 0.4]])[None, :, None]


def test_the_most_probable_class_of_some_classes_over_all_voxels() -> None:
    """
    Most probable are 0 (0.6), 1 (0.7), 0 (0.9), 2 (0.6) and, void, 0. Of 0 and 1 the first three count, which the two
    raters call right by 1/2, 1 and 1: gaps 0.1 in one bin, 0.3 and 0.1 in others, over 3 voxels or over all 5.
    """
    y = maps([0, 1, 0, 1, 255], [2, 1, 0, 2, 0])
    options = {"num_bins": 10, "classes": [0, 1], "ignore_index": 255}
    bins = compute_calibration_bins(TOP, y, **options)
    expected = torch.zeros(10, 3, dtype=torch.float64)
    expected[5], expected[6], expected[8] = torch.tensor([[1, 0.6, 0.5], [1, 0.7, 1], [1, 0.9, 1]]).double()
    torch.testing.assert_close(bins, expected, rtol=0, atol=1e-6)
    for denominator, voxels in (("counted", 3), ("all", 5)):
        metric = ExpectedCalibrationErrorMetric(**options, denominator=denominator)
        metric(TOP, y)
        assert metric.aggregate().item() == pytest.approx(0.5 / voxels, abs=1e-6)
        item = ItemCalibrationErrorMetric(**options, denominator=denominator)
        assert item(TOP, y).item() == pytest.approx(0.5 / voxels, abs=1e-6)


def test_all_voxels_are_those_of_the_mask_and_of_each_class() -> None:
    y, mask = maps([0, 1, 0, 1, 2]), torch.tensor([[[[1, 1, 0, 1, 0]]]])
    metric = ExpectedCalibrationErrorMetric(num_bins=1, classes=[1], denominator="all")
    metric(TOP, y, mask=mask)
    metric(TOP, y, mask=mask)
    assert metric.aggregate().item() == pytest.approx(0.3 / 3, abs=1e-6)
    of_class = ExpectedCalibrationErrorMetric(
        num_bins=1, kind="class", class_index=[0, 2], ignore_index=1, denominator="all"
    )
    of_class(TOP, y)  # voxels 0, 2 and 4: confidences 0.6 + 0.9 + 0.5 + 0.1 + 0.0 + 0.4, right 3 times, of 10 pairs
    assert of_class.aggregate().item() == pytest.approx((3 - 2.5) / 10, abs=1e-6)


def test_void_of_a_missing_rater_and_where_nothing_counts() -> None:
    y, options = maps([0, 1, 0, 1, 2], [255] * 5), {"ignore_index": 255, "y_weights": torch.tensor([[1.0, 0.0]])}
    torch.testing.assert_close(compute_calibration_bins(TOP, y, **options), compute_calibration_bins(TOP, y[:, :1]))
    metric = ExpectedCalibrationErrorMetric(ignore_index=255, denominator="all")
    metric(TOP, y)
    assert metric.aggregate().isnan()


def test_rejects_fewer_voxels_than_the_bins_hold() -> None:
    with pytest.raises(ValueError, match="voxels must be at least the 2 voxels in the bins, got 1"):
        expected_calibration_error(torch.tensor([[2.0, 1.0, 1.0]]), 1)
    with pytest.raises(ValueError, match="denominator"):
        ExpectedCalibrationErrorMetric(denominator="void")
