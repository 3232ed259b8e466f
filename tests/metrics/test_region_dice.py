# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import pytest
import torch

from monai_stochseg.metrics import RegionDiceMetric, SampleDiceMetric, compute_region_dice, compute_sample_dice

REGIONS = {"WT": (1, 2, 3), "ET": (3,)}


def maps(*rows: list[int]) -> torch.Tensor:
    return torch.tensor(rows)[None, :, None]  # [1, N, 1, W]


def test_hand_computed_with_merged_classes_and_empties():
    y_pred = maps([1, 2, 0, 0], [0, 0, 0, 3])
    y = maps([1, 1, 2, 0], [0, 0, 0, 0])
    # WT: the second rater drew nothing and is left out; 2 * 2 / (2 + 3) and 0. ET: no rater drew it.
    expected = torch.tensor([[[0.8, math.nan], [0.0, math.nan]]])
    torch.testing.assert_close(compute_region_dice(y_pred, y, REGIONS), expected, equal_nan=True)


def test_boolean_maps():
    y_pred, y = maps([1, 1, 0, 0]), maps([1, 0, 0, 0])
    dice = compute_region_dice(y_pred.bool(), y.bool(), {"tumour": (1,)})
    assert dice.item() == pytest.approx(2 / 3)


def test_mean_over_raters():
    y_pred = maps([3, 3, 0, 0])
    y = maps([3, 0, 0, 0], [3, 3, 0, 0])
    torch.testing.assert_close(compute_region_dice(y_pred, y, {"ET": (3,)}), torch.tensor([[[(2 / 3 + 1) / 2]]]))


def test_sample_statistics():
    mode = [1, 1, 0, 0]
    samples = [[1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]]
    y = maps([1, 1, 1, 0])
    mode_dice, quantile, better = compute_sample_dice(maps(mode, *samples), y, {"WT": (1,)}, quantile=1.0)[
        0, :, 0
    ].tolist()
    assert mode_dice == pytest.approx(0.8)
    assert quantile == pytest.approx(1.0)
    assert better == pytest.approx(1 / 4)


def test_metrics_name_their_columns_and_leave_undefined_cases_out():
    metric = SampleDiceMetric(REGIONS, quantile=0.95)
    assert metric.names == [
        "dice_WT", "dice_ET", "dice_q95_WT", "dice_q95_ET", "better_than_mode_WT", "better_than_mode_ET"
    ]  # fmt: skip
    metric(maps([1, 0], [1, 0]), maps([1, 0]))
    metric(maps([3, 0], [0, 3]), maps([3, 0]))
    torch.testing.assert_close(metric.aggregate(), torch.tensor([1.0, 1.0, 0.5, 0.0, 0.0, 0.0]))
    mode = RegionDiceMetric(REGIONS)
    mode(maps([1, 0]), maps([1, 0]))
    assert mode.aggregate().item() == 1.0
    empty = RegionDiceMetric(REGIONS)
    empty(maps([1, 0]), maps([0, 0]))
    assert math.isnan(empty.aggregate().item())


def test_one_rater():
    y_pred, y = maps([1, 1, 0, 0]), maps([1, 0, 0, 0], [0, 0, 0, 0], [1, 1, 0, 0])
    for rater, expected in [(0, 2 / 3), (1, math.nan), (2, 1.0), (None, 5 / 6)]:
        metric = RegionDiceMetric({"tumour": (1,)}, rater=rater)
        metric(y_pred, y)
        assert metric.aggregate().item() == pytest.approx(expected, nan_ok=True)
    with pytest.raises(ValueError, match="rater must be one of the 3 raters of y, 0 to 2, got 3"):
        RegionDiceMetric({"tumour": (1,)}, rater=3)(y_pred, y)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: compute_region_dice(maps([1]), maps([1]), {}), "at least one region"),
        (
            lambda: compute_region_dice(maps([1]), maps([1, 0]), REGIONS),
            "y_pred and y must agree in all axes",
        ),
        (
            lambda: compute_region_dice(maps([1]), maps([1])[:, :0], REGIONS),
            "y must be label maps .* none of its",
        ),
        (lambda: compute_region_dice(maps([1]), maps([1]) * 0.5, REGIONS), "y must hold integer class labels, got 0.5"),
        (lambda: compute_region_dice(maps([1]) * torch.nan, maps([1]), REGIONS), "y_pred must hold integer .* got nan"),
        (lambda: RegionDiceMetric(REGIONS)([maps([1])[0]], [maps([1, 0])[0]]), "y_pred and y must agree"),
        (lambda: compute_sample_dice(maps([1]), maps([1]), REGIONS), "single answer and at least one sample"),
        (lambda: SampleDiceMetric(REGIONS, quantile=95), r"quantile must lie in \[0, 1\], got 95"),
    ],
)
def test_rejects(call, message):
    with pytest.raises(ValueError, match=message):
        call()
