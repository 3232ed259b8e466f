# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
from functools import partial
from itertools import product

import numpy as np
import pytest
import torch
from distance_options import with_distance
from monai.data import MetaTensor

from monai_stochseg.metrics import (
    DiversityCorrelationMetric,
    EnergyDistanceCurveMetric,
    GeneralizedEnergyDistanceMetric,
    HungarianMatchedIoUMetric,
    LabelMapDistance,
    MaximumDiceMatchMetric,
    ModeFrequencyMetric,
    RaterDiceMetric,
    SampleDiversityMetric,
    compute_pairwise_distance,
    pairwise_distance,
)

NAN = float("nan")


def maps(*rows: list[int]) -> torch.Tensor:
    """Label maps ``[1, K, 1, V]`` of one item."""
    return torch.tensor(rows)[None, :, None]


def slow(
    x: torch.Tensor,
    y: torch.Tensor,
    num_classes: int,
    include_background: bool = False,
    overlap: str = "iou",
    empty: str = "agree",
    ignore_index: int | None = None,
    classes: tuple[int, ...] | None = None,
) -> torch.Tensor:
    """The definition, pair by pair with numpy's sets of voxels."""
    out = torch.full((len(x), x.shape[1], y.shape[1]), NAN)
    for b in range(len(x)):
        void = (torch.cat([x[b], y[b]]) == ignore_index).any(0).numpy() if ignore_index is not None else None
        for i, j in product(range(x.shape[1]), range(y.shape[1])):
            p, q = x[b, i].numpy(), y[b, j].numpy()
            if void is not None:
                p, q = p[~void], q[~void]
            per_class = []
            for c in classes or range(0 if include_background else 1, num_classes):
                first, second = set(np.flatnonzero(p == c)), set(np.flatnonzero(q == c))
                if c == ignore_index or (empty == "ignore" and not first | second):
                    continue
                if not first | second:
                    common = float(empty != "miss")
                elif overlap == "iou":
                    common = len(first & second) / len(first | second)
                else:
                    common = 2 * len(first & second) / (len(first) + len(second))
                per_class.append(1 - common)
            if per_class:
                out[b, i, j] = sum(per_class) / len(per_class)
    return out


@pytest.mark.parametrize(
    ("first", "second", "options", "expected"),
    [
        ([0, 1, 1, 0], [0, 0, 1, 1], {}, 1 - 1 / 3),
        ([0, 1, 1, 0], [0, 0, 1, 1], {"overlap": "dice"}, 1 - 2 / 4),
        ([0, 1, 1, 0], [0, 1, 1, 0], {}, 0),
        ([1, 1, 0, 0], [0, 0, 1, 1], {}, 1),
        # class 1 is empty in one map only: distance 1 whatever `empty` is
        ([0, 0, 0, 0], [0, 1, 0, 0], {}, 1),
        ([0, 0, 0, 0], [0, 1, 0, 0], {"empty": "ignore"}, 1),
        # in both
        ([0, 0, 0, 0], [0, 0, 0, 0], {}, 0),
        ([0, 0, 0, 0], [0, 0, 0, 0], {"empty": "ignore"}, NAN),
        ([0, 0, 0, 0], [0, 0, 0, 0], {"empty": "miss"}, 1),
        ([0, 0, 0, 0], [0, 1, 0, 0], {"empty": "miss"}, 1),
        ([9, 9, 9, 9], [0, 1, 1, 1], {"ignore_index": 9, "empty": "miss"}, NAN),
        ([0, 1, 1, 0], [0, 0, 1, 1], {"num_classes": 3, "empty": "miss"}, (2 / 3 + 1) / 2),
        # class 2 in neither: it halves the mean, or is left out
        ([0, 1, 1, 0], [0, 0, 1, 1], {"num_classes": 3}, (2 / 3) / 2),
        ([0, 1, 1, 0], [0, 0, 1, 1], {"num_classes": 3, "empty": "ignore"}, 2 / 3),
        ([0, 1, 1, 0], [0, 0, 1, 1], {"num_classes": 3, "empty": "ignore_or_agree"}, 2 / 3),
        ([0, 0, 0, 0], [0, 0, 0, 0], {"empty": "ignore_or_agree"}, 0),
        # the background {0, 3} and {0, 1}
        ([0, 1, 1, 0], [0, 0, 1, 1], {"include_background": True}, 1 - 1 / 3),
        ([0, 0, 0, 0], [0, 0, 0, 0], {"include_background": True, "empty": "ignore"}, 0),
        # voxel 1 is void in the first map: {2} and {2, 3} remain
        ([0, 9, 1, 0], [0, 1, 1, 1], {"ignore_index": 9}, 1 - 1 / 2),
        ([9, 9, 9, 9], [0, 1, 1, 1], {"ignore_index": 9}, NAN),
        ([9, 9, 9, 9], [0, 1, 1, 1], {"ignore_index": 9, "empty": "ignore_or_agree"}, NAN),
        ([9, 9, 9, 9], [0, 1, 1, 1], {"ignore_index": 9, "empty": "ignore"}, NAN),
        ([0, -1, 1, 0], [0, 1, 1, 1], {"ignore_index": -1}, 1 - 1 / 2),
        # class 2 does not count, be it another's or absent from both
        ([0, 1, 1, 2], [0, 2, 1, 1], {"num_classes": 3, "classes": [1]}, 1 - 1 / 3),
        ([0, 1, 1, 0], [0, 0, 1, 1], {"num_classes": 3, "classes": [1, 2], "empty": "ignore"}, 2 / 3),
        ([0, 1, 1, 0], [0, 0, 1, 1], {"num_classes": 3, "classes": [2], "empty": "ignore"}, NAN),
        ([0, 1, 1, 0], [0, 0, 0, 1], {"classes": (0,)}, 1 - 1 / 4),
        # a void class does not count as agreement
        ([0, 2, 1, 0], [0, 1, 1, 1], {"ignore_index": 2, "num_classes": 3}, 1 - 1 / 2),
    ],
)
def test_by_hand(first: list[int], second: list[int], options: dict, expected: float) -> None:
    d = compute_pairwise_distance(maps(first), maps(second), **with_distance({"num_classes": 2, **options}))
    assert d.shape == (1, 1, 1)
    torch.testing.assert_close(d.item(), float(expected), equal_nan=True, rtol=0, atol=1e-7)


def test_void_voxels_are_left_out_for_the_whole_item_but_not_for_others() -> None:
    x = torch.stack([maps([1, 1], [1, 0], [9, 1])[0], maps([1, 1], [1, 0], [1, 1])[0]])
    d = compute_pairwise_distance(x, distance=LabelMapDistance(2, ignore_index=9))
    assert d[:, 0, 1].tolist() == [1.0, 0.5]


@pytest.mark.parametrize("chunk", [1, 40, 2**22])
@pytest.mark.parametrize("shape", [(9, 7), (4, 5, 6)])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"overlap": "dice"},
        {"include_background": True},
        {"empty": "ignore"},
        {"empty": "ignore", "overlap": "dice", "include_background": True, "ignore_index": 255},
        {"ignore_index": 0, "include_background": True},
        {"ignore_index": 2},
        {"classes": (3,), "empty": "ignore"},
        {"empty": "miss", "overlap": "dice"},
        {"classes": (4, 0, 2), "ignore_index": 2},
    ],
)
def test_equals_the_definition(
    shape: tuple[int, ...], options: dict, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pairwise_distance, "CHUNK_ELEMENTS", chunk)
    x, y = torch.randint(5, (2, 3, *shape)), torch.randint(5, (2, 2, *shape))
    x[0, :, :3] = y[0, :, :3] = 1  # agreement
    x[1][x[1] == 3] = 4  # a class that is empty in both sets, and one that is in one
    y[1][y[1] >= 3] = 0
    if options.get("ignore_index") == 255:
        y[:, 0, -1] = 255
    options = {"num_classes": 5, **options}
    torch.testing.assert_close(
        compute_pairwise_distance(x, y, **with_distance(options)), slow(x, y, **options), equal_nan=True
    )
    torch.testing.assert_close(
        compute_pairwise_distance(x, **with_distance(options)), slow(x, x, **options), equal_nan=True
    )


@pytest.mark.parametrize(
    "metric",
    [
        GeneralizedEnergyDistanceMetric,
        partial(EnergyDistanceCurveMetric, (1, 3)),
        HungarianMatchedIoUMetric,
        MaximumDiceMatchMetric,
        partial(ModeFrequencyMetric, 2),
        partial(RaterDiceMetric, nonempty_raters=True),
        SampleDiversityMetric,
        DiversityCorrelationMetric,
    ],
)
def test_every_metric_takes_classes_and_a_void_label(metric) -> None:
    """Classes 3 and 1 alone are classes 1 and 2 of maps without the others."""
    s, y = torch.randint(5, (1, 3, 6, 6)), torch.randint(5, (1, 2, 6, 6))
    y[:, :, 0] = 255
    sets = (s,) if metric is SampleDiversityMetric else (s, y)
    alone = [torch.where(maps == 3, 1, torch.where(maps == 1, 2, 0)).masked_fill(maps == 255, 255) for maps in sets]
    value = metric(LabelMapDistance(5, classes=(3, 1), ignore_index=255))(*sets)
    torch.testing.assert_close(value, metric(LabelMapDistance(3, ignore_index=255))(*alone))


@pytest.mark.parametrize(
    "dtype",
    [
        torch.bool,
        torch.uint8,
        torch.int8,
        torch.int16,
        torch.uint16,
        torch.int32,
        torch.int64,
        torch.float16,
        torch.bfloat16,
        torch.float32,
        torch.float64,
    ],
)
def test_any_type(dtype: torch.dtype) -> None:
    x, y = torch.randint(2, (1, 3, 4, 4)), torch.randint(2, (1, 2, 4, 4))
    expected = slow(x, y, 2)
    torch.testing.assert_close(compute_pairwise_distance(x.to(dtype), y, distance=2), expected)
    torch.testing.assert_close(
        compute_pairwise_distance(x, y.to(dtype), distance=LabelMapDistance(2, ignore_index=-1)), expected
    )


def test_many_classes() -> None:
    x = torch.randint(300, (1, 2, 40, 40))
    torch.testing.assert_close(compute_pairwise_distance(x, distance=300), slow(x, x, 300))


def test_metadata_is_left_behind() -> None:
    x = torch.randint(2, (1, 3, 4, 4))
    d = compute_pairwise_distance(MetaTensor(x), distance=2)
    assert type(d) is torch.Tensor
    torch.testing.assert_close(d, slow(x, x, 2))


def test_autocast_rounds_no_count() -> None:
    x = torch.randint(2, (1, 3, 30, 30))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        d = compute_pairwise_distance(x, distance=2)
    torch.testing.assert_close(d, slow(x, x, 2), rtol=0, atol=1e-6)


def test_intersections_are_counts() -> None:
    x, y = maps([0, 1, 1, 2], [0, 1, 2, 2])[0], maps([0, 1, 0, 2])[0]
    counts, voxels = LabelMapDistance(3).intersections({"x": x, "y": y})
    assert counts.dtype == torch.int64
    assert voxels == 4
    assert counts.tolist() == [[[2, 1, 1], [1, 1, 1], [1, 1, 1]], [[1, 1, 1], [1, 2, 1], [1, 1, 1]]]


@pytest.mark.gpu
def test_gpu() -> None:
    x, y = torch.randint(5, (2, 3, 8, 8)), torch.randint(5, (2, 2, 8, 8))
    d = compute_pairwise_distance(x.cuda(), y.cuda(), distance=5)
    assert d.is_cuda
    torch.testing.assert_close(d.cpu(), slow(x, y, 5))


GOOD = torch.zeros(1, 2, 3, 3)


@pytest.mark.parametrize(
    ("x", "y", "options", "message"),
    [
        (GOOD, GOOD + 4, {}, "y has label 4, outside the 4 classes 0 to 3"),
        (GOOD - 1, GOOD, {}, r"x has label -1, .*ignore_index \(now None\)"),
        (GOOD.byte() + 255, None, {"ignore_index": -1}, r"x has label 255, .*\(now -1\)"),
        (GOOD + 0.5, None, {}, "x must hold integer class labels, got 0.5: pass label maps, not probabilities"),
        (GOOD, GOOD + NAN, {}, "y must hold integer class labels, got nan"),
        (GOOD + math.inf, None, {}, "x must hold integer class labels, got inf"),
        (GOOD[0, 0], None, {}, r"x must be label maps of shape \[B, K, \*S\], .*got \(3, 3\)"),
        (GOOD[:, :0], None, {}, r"none of its axes empty, got \(1, 0, 3, 3\)"),
        (GOOD, GOOD[..., :2], {}, r"x and y must agree .*\(1, 2, 3, 3\) and \(1, 2, 3, 2\)"),
        (GOOD, GOOD.repeat(2, 1, 1, 1), {}, r"x and y must agree .*and \(2, 2, 3, 3\)"),
        (GOOD, None, {"num_classes": 1}, "num_classes counts the background and must be at least 2, got 1"),
        (GOOD, None, {"overlap": "jaccard"}, "jaccard"),
        (GOOD, None, {"empty": "zero"}, "zero"),
        (GOOD, None, {"num_classes": 2, "ignore_index": 1}, "no class takes part .*ignore_index=1"),
        (GOOD, None, {"classes": ()}, r"no class takes part .*classes=\(\)"),
        (GOOD, None, {"classes": (1, 4)}, r"classes must be different ones of the 4 classes 0 to 3, got \[1, 4\]"),
        (GOOD, None, {"classes": (1, 1)}, "classes must be different ones"),
        (GOOD, None, {"classes": (1,), "include_background": True}, "drop include_background"),
    ],
)
def test_rejects(x: torch.Tensor, y: torch.Tensor | None, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compute_pairwise_distance(x, y, **with_distance({"num_classes": 4, **options}))


def test_rejects_what_is_no_tensor_of_labels() -> None:
    with pytest.raises(TypeError, match="y must be a tensor of real numbers or None, got"):
        compute_pairwise_distance(GOOD, [GOOD], distance=2)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"x must be .* type torch.complex64"):
        compute_pairwise_distance(GOOD.to(torch.complex64), distance=2)
