# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.handlers import IgniteMetricHandler, from_engine
from torch import distributed, multiprocessing

from monai_stochseg.metrics.adaptive_calibration_error import (
    AdaptiveCalibrationErrorMetric,
    compute_adaptive_calibration_error,
)


def maps(*rows: list[int]) -> torch.Tensor:
    """Label maps ``[1, K, 1, V]`` of one item."""
    return torch.tensor(rows)[None, :, None]


def foreground(*p: float) -> torch.Tensor:
    """Probabilities ``[1, 2, 1, V]`` of one item."""
    return torch.tensor([[[[1 - x for x in p]], [list(p)]]])


P = foreground(0.9, 0.2, 0.0, 0.4, 0.7)  # four above the threshold: 0.2, 0.4 and 0.7, 0.9


@pytest.mark.parametrize(
    ("p", "y", "options", "expected"),
    [
        # bins (0.2, 0.4) and (0.7, 0.9): |0.5 - 0.3| and |0.5 - 0.8|
        (P, maps([0, 1, 1, 0, 1]), {}, (0.2 + 0.3) / 2),
        (P, maps([0, 1, 1, 0, 1]), {"weighting": "svls"}, (0.2 + 0.3) / 4),
        (P, maps([1, 0, 0, 0, 1]), {}, (0.3 + 0.2) / 2),
        (P, maps([1, 0, 0, 0, 1]), {"threshold": 0.4}, (0.3 + 0.1) / 2),
        # three voxels in two bins: 0.4 and 0.7, 0.9
        (P, maps([1, 0, 0, 0, 1]), {"threshold": 0.2}, (0.4 + 0.2) / 2),
        (P, maps([1, 0, 0, 0, 1]), {"threshold": 0.2, "weighting": "svls"}, (0.4 / 3 + 0.2 * 2 / 3) / 2),
        # fewer voxels than bins: a bin each
        (P, maps([1, 0, 0, 0, 1]), {"threshold": 0.4, "num_bins": 10}, (0.3 + 0.1) / 2),
        (P, maps([1, 0, 0, 0, 1]), {"threshold": 0.4, "num_bins": 10, "weighting": "svls"}, (0.3 + 0.1) / 4),
        (P, maps([1, 0, 0, 0, 1]), {"threshold": 0.8, "num_bins": 10}, 0.1),
        (P, maps([1, 0, 0, 0, 1]), {"threshold": 0.9}, math.nan),
        # raters by their frequency: 0, 1/2 and 1, 1/2
        (P, maps([1, 0, 0, 1, 1], [0, 0, 1, 0, 1]), {}, (0.05 + 0.05) / 2),
        (P, maps([1, 0, 0, 1, 1], [9] * 5), {"y_weights": torch.tensor([[1.0, 0.0]])}, (0.2 + 0.2) / 2),
        (P, P, {"soft_target": True}, 0.0),
        (P, foreground(0.5, 0.2, 0.0, 0.4, 0.7), {"soft_target": True}, 0.2 / 2),
        (P, maps([255, 0, 0, 1, 1]), {"mask": torch.tensor([[[[0, 1, 1, 1, 1]]]])}, (0.2 + (0.6 + 0.3) / 2) / 2),
        (P, maps([1, 0, 0, 1, 1]), {"foreground_only": True}, (0.6 + 0.2) / 2),
        (P, maps([0] * 5), {"foreground_only": True}, math.nan),
        # a limit among equals: each bin has its share of those that are right
        (foreground(*[0.5] * 4), maps([0, 0, 1, 1]), {}, 0.0),
        (foreground(0.1, 0.5, 0.5, 0.9), maps([0, 0, 1, 1]), {}, (abs(0.25 - 0.3) + abs(0.75 - 0.7)) / 2),
        # probabilities of exactly 1
        (foreground(*[1.0] * 4), maps([0, 1, 1, 1]), {}, 0.25),
    ],
)
def test_by_hand(p: torch.Tensor, y: torch.Tensor, options: dict, expected: float) -> None:
    value = compute_adaptive_calibration_error(p, y, **{"num_bins": 2, "classes": [1], **options})
    torch.testing.assert_close(value, torch.tensor([[expected]]), equal_nan=True, rtol=0, atol=1e-6)


def _reference(p: np.ndarray, f: np.ndarray, num_bins: int, threshold: float, svls: bool) -> float:
    """One class of one item with distinct probabilities, voxel by voxel."""
    pairs = sorted((x, y) for x, y in zip(p.ravel().tolist(), f.ravel().tolist(), strict=True) if x > threshold)
    num_bins = min(num_bins, len(pairs))
    errors = []
    for m in range(num_bins):
        inside = pairs[m * len(pairs) // num_bins : (m + 1) * len(pairs) // num_bins]
        confidence, accuracy = (sum(column) / len(inside) for column in zip(*inside, strict=True))
        errors.append(abs(accuracy - confidence) * (len(inside) / len(pairs) if svls else 1))
    return sum(errors) / num_bins


@pytest.mark.parametrize("shape", [(6, 5), (4, 3, 5)])
@pytest.mark.parametrize("num_bins", [1, 7, 10, 100])
def test_equals_the_definition(shape: tuple[int, ...], num_bins: int) -> None:
    p, y = torch.randn(3, 4, *shape).mul(3).softmax(1), torch.randint(4, (3, 2, *shape))
    for weighting in ("equal", "svls"):
        value = compute_adaptive_calibration_error(p, y, num_bins=num_bins, threshold=0.05, weighting=weighting)
        for item in range(3):
            for c in range(4):
                frequency = (y[item] == c).float().mean(0).numpy()
                expected = _reference(p[item, c].numpy(), frequency, num_bins, 0.05, weighting == "svls")
                assert value[item, c].item() == pytest.approx(expected, abs=1e-6)


def test_svls_weighting_is_smaller_by_the_number_of_bins() -> None:
    p, y = torch.randn(1, 3, 10, 10).softmax(1), torch.randint(3, (1, 1, 10, 10))
    equal, svls = (
        compute_adaptive_calibration_error(p, y, threshold=0, weighting=weighting) for weighting in ("equal", "svls")
    )
    torch.testing.assert_close(svls * 10, equal)


def test_the_order_of_voxels_has_no_say() -> None:
    p = (torch.randn(1, 3, 400).mul(4).softmax(1) * 4).round()  # many are equal
    p = p / p.sum(1, keepdim=True)
    y = torch.randint(3, (1, 2, 400))
    order = torch.randperm(400)
    one, other = (compute_adaptive_calibration_error(*maps_) for maps_ in ((p, y), (p[..., order], y[..., order])))
    torch.testing.assert_close(one, other, rtol=0, atol=1e-7)


def test_metric_leaves_undefined_classes_and_items_out() -> None:
    p = torch.tensor([[[0.6, 0.6], [0.4, 0.4], [0.0, 0.0]], [[0.7, 0.7], [0.1, 0.1], [0.2, 0.2]]])
    y = torch.tensor([[[0, 0]], [[0, 0]]])
    metric = AdaptiveCalibrationErrorMetric()
    metric(p, y)
    expected = torch.tensor([[(0.4 + 0.4) / 2], [(0.3 + 0.1 + 0.2) / 3]])
    torch.testing.assert_close(metric.get_buffer(), expected)
    metric([p[0]], [y[0]], mask=[torch.zeros(1, 2)])
    assert metric.aggregate().item() == pytest.approx(expected.mean().item())
    only = AdaptiveCalibrationErrorMetric(classes=(2,), get_not_nans=True)
    only(p, y)
    value, count = only.aggregate()
    assert value.item() == pytest.approx(0.2)
    assert count.item() == 1


def test_metric_passes_its_options_on() -> None:
    p, y = torch.randn(2, 3, 5, 5).softmax(1), torch.randint(3, (2, 2, 5, 5))
    options = {"num_bins": 3, "threshold": 0.2, "classes": (1, 2), "weighting": "svls", "foreground_only": True}
    metric = AdaptiveCalibrationErrorMetric(**options)
    given = {"y_weights": torch.tensor([[0.3, 0.7]] * 2), "mask": torch.randint(2, (2, 1, 5, 5))}
    metric(p, y, **given)
    expected = compute_adaptive_calibration_error(p, y, **options, **given)
    torch.testing.assert_close(metric.get_buffer(), expected.mean(1, keepdim=True))
    soft = AdaptiveCalibrationErrorMetric(soft_target=True)
    soft(p, p)
    assert soft.aggregate().item() == pytest.approx(0, abs=1e-6)


def test_half_precision() -> None:
    p, y = torch.randn(1, 3, 20, 20).softmax(1).half(), torch.randint(3, (1, 1, 20, 20))
    torch.testing.assert_close(
        compute_adaptive_calibration_error(p, y), compute_adaptive_calibration_error(p.float(), y)
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_bins": 0}, "num_bins must be at least 1, got 0"),
        ({"threshold": 1.0}, r"threshold must lie in \[0, 1\), got 1.0"),
        ({"threshold": math.nan}, "threshold must be a finite number"),
        ({"weighting": "none"}, "none"),
        ({"classes": ()}, "classes must name one or more classes"),
        ({"classes": (0, 2)}, r"classes must be of the 2 classes 0 to 1, got \[2\]"),
        ({"y_pred": torch.ones(1, 2, 1, 5)}, "y_pred must hold probabilities that sum to 1"),
        ({"y_pred": P.logit(eps=0.1)}, "pass the softmax of logits"),
        ({"y": maps([0, 0, 2, 0, 0])}, "y has label 2"),
        ({"y": maps([0, 0, 1, 0, 0]) * 0.5}, "y must hold integer class labels, got 0.5"),
        ({"y": maps([0, 0, 1, 0, 0])[:, :0]}, "y must be label maps .* none of its axes empty"),
        ({"y": maps([0, 1])}, "y_pred and y must agree"),
        ({"soft_target": True}, "y must be class probabilities"),
        ({"soft_target": True, "y": P, "y_weights": torch.ones(1, 1)}, "let y_weights be None"),
    ],
)
def test_rejects(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compute_adaptive_calibration_error(**{"y_pred": P, "y": maps([0, 1, 1, 0, 1]), **options})


@pytest.mark.parametrize("options", [{"num_bins": 0}, {"threshold": -1}, {"classes": []}, {"weighting": "voxels"}])
def test_metric_rejects(options: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(options)) if "weighting" not in options else "voxels"):
        AdaptiveCalibrationErrorMetric(**options)


def test_in_an_engine() -> None:
    metric = AdaptiveCalibrationErrorMetric(num_bins=2, classes=(1,))
    batch = [
        {"probabilities": P[0], "label": maps([0, 1, 1, 0, 1])[0].float()},
        {"probabilities": foreground(0.3, 0.7)[0], "label": maps([0, 0], [1, 0])[0]},
    ]
    engine = Engine(lambda _, items: items)
    IgniteMetricHandler(metric_fn=metric, output_transform=from_engine(["probabilities", "label"])).attach(
        engine, "tace"
    )
    for _ in range(2):
        engine.run([batch])
        assert engine.state.metrics["tace"] == pytest.approx((0.25 + (0.2 + 0.7) / 2) / 2)


def _rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/init", rank=rank, world_size=2)
    metric = AdaptiveCalibrationErrorMetric(classes=(1,))
    for p in [(0.9,), (0.3, 0.7)][rank]:
        metric(foreground(p), maps([1]))
    torch.save(metric.aggregate(), f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


def test_over_processes(tmp_path: Path) -> None:
    """The mean over all three items, and not over the processes' means."""
    multiprocessing.start_processes(_rank, args=(str(tmp_path),), nprocs=2, start_method="fork")
    for rank in range(2):
        assert torch.load(tmp_path / f"{rank}.pt").item() == pytest.approx((0.1 + 0.7 + 0.3) / 3)


def test_on_a_real_label(real_data: Path) -> None:
    """A smoothed label of a real tumour is calibrated to itself and less sure than the label."""
    path = next((real_data / "brats2015" / "validation").glob("*/OTMultiClass.nii.gz"))
    y = torch.from_numpy(np.asarray(nib.load(path).dataobj).astype(np.int64))[None, None, ::2, ::2, ::4]
    one_hot = torch.nn.functional.one_hot(y[:, 0], 5).movedim(-1, 1).float()
    soft = torch.nn.functional.avg_pool3d(one_hot, 3, stride=1, padding=1, count_include_pad=False)
    itself = compute_adaptive_calibration_error(soft, soft, soft_target=True)
    torch.testing.assert_close(itself, torch.zeros(1, 5), rtol=0, atol=1e-6)
    error = compute_adaptive_calibration_error(soft, y)
    assert (error[0, 1:] > 0.05).all()
    assert error[0, 0] < 1e-6  # smoothing keeps the sum, and all voxels that it changed share the lowest bin
    assert (compute_adaptive_calibration_error(one_hot, y) == 0).all()
