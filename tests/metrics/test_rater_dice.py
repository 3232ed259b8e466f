# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import pytest
import torch
from distance_options import with_distance
from monai.metrics import compute_dice

from monai_stochseg.metrics import RaterDiceMetric, compute_rater_dice


def maps(*rows: list[int]) -> torch.Tensor:
    """Label maps ``[1, K, 1, V]`` of one item."""
    return torch.tensor(rows)[None, :, None]


# Dice(A, B) = 1/2, Dice(A, C) = 2/3, Dice(B, C) = 0
A, B, C, EMPTY = [0, 1, 1, 0], [0, 0, 1, 1], [0, 1, 0, 0], [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("y_pred", "y", "options", "expected"),
    [
        (maps(A), maps(B), {}, 1 / 2),
        (maps(B, C), maps(A), {}, 7 / 12),
        (maps(A, EMPTY), maps(A, EMPTY), {}, 1 / 2),
        (maps(A, EMPTY), maps(A, EMPTY), {"empty": "ignore"}, 1 / 3),
        (maps(A, EMPTY), maps(A, EMPTY), {"nonempty_raters": True}, 1 / 2),
        (maps(A, A), maps(A, EMPTY, EMPTY, EMPTY), {}, 1 / 4),
        (maps(A, A), maps(A, EMPTY, EMPTY, EMPTY), {"nonempty_raters": True}, 1),
        (maps(EMPTY), maps(EMPTY), {}, 1),
        (maps(EMPTY), maps(EMPTY), {"empty": "ignore"}, math.nan),
        (maps(A), maps(EMPTY, EMPTY), {"nonempty_raters": True}, math.nan),
        (maps(B, C), maps(A), {"y_pred_weights": [[0.75, 0.25]]}, 3 / 8 + 1 / 6),
        (maps(A), maps(A, B, [9] * 4), {"y_weights": [[0.25, 0.75, 0.0]]}, 1 / 4 + 3 / 8),
        (maps(A), maps(EMPTY, A, B), {"y_weights": [[0.5, 0.2, 0.3]], "nonempty_raters": True}, 0.7),
        # voxel 3 is void: 2 / 3; a rater of void and background alone is empty
        (maps(A), maps([0, 0, 1, 255]), {"ignore_index": 255}, 2 / 3),
        (maps(A), maps([0, 0, 0, 255]), {"ignore_index": 255, "nonempty_raters": True}, math.nan),
        (maps(A), maps(EMPTY), {"include_background": True}, (0 + 4 / 6) / 2),
        # Dice 1/2 and 2/3, 1 for the class that is empty in both
        (maps([1, 1, 2, 0]), maps([1, 0, 2, 2]), {"num_classes": 4}, (2 / 3 + 2 / 3 + 1) / 3),
        (maps([1, 1, 2, 0]), maps([1, 0, 2, 2]), {"num_classes": 4, "empty": "ignore"}, 2 / 3),
    ],
)
def test_by_hand(y_pred: torch.Tensor, y: torch.Tensor, options: dict, expected: float) -> None:
    options = {name: torch.tensor(v) if name.endswith("weights") else v for name, v in options.items()}
    value = compute_rater_dice(y_pred, y, **with_distance({"num_classes": 2, **options}))
    assert value.shape == (1,)
    torch.testing.assert_close(value.item(), float(expected), equal_nan=True, rtol=0, atol=1e-6)


def test_equals_monais_dice() -> None:
    s, r = torch.randint(2, (2, 5, 4, 4, 4)), torch.randint(2, (2, 3, 4, 4, 4))
    s[0, 0], r[0, 0], r[1] = 0, 0, 0
    dice = torch.stack([compute_dice(s[:, [n]], r[:, [k]])[:, 0] for k in range(3) for n in range(5)])
    value = compute_rater_dice(s, r, distance=2, nonempty_raters=True)
    torch.testing.assert_close(value, dice.nanmean(0), equal_nan=True)
    ones = compute_dice(s[:1, [0]], r[:1, [0]], ignore_empty=False)  # both empty: MONAI's Dice is then 1 too
    torch.testing.assert_close(compute_rater_dice(s[:1, :1], r[:1, :1], distance=2), ones[:, 0])


def test_order_does_not_matter() -> None:
    s, r = torch.randint(3, (2, 5, 4, 4)), torch.randint(3, (2, 3, 4, 4))
    value = compute_rater_dice(s, r, distance=3)
    torch.testing.assert_close(compute_rater_dice(s.flip(1), r.roll(1, 1), distance=3), value)
    torch.testing.assert_close(compute_rater_dice(r, s, distance=3), value)
    torch.testing.assert_close(compute_rater_dice(s[:, :1], s[:, :1], distance=3), torch.ones(2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"empty": "one"}, "one"),
        ({"y_weights": torch.tensor([[0.5, -0.4]])}, "y_weights must be .* one weight for each map"),
        ({"y": maps(A, [0, 0, 0, 5])}, "y has label 5"),
        ({"y": maps([0, 1])}, "y_pred and y must agree"),
        ({"num_classes": 1}, "num_classes"),
    ],
)
def test_rejects(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compute_rater_dice(**with_distance({"y_pred": maps(A, B), "y": maps(A, B), "num_classes": 2, **options}))


def test_metric() -> None:
    metric = RaterDiceMetric(2, nonempty_raters=True, get_not_nans=True)
    values = metric([maps(A)[0]] * 3, [maps(B)[0], maps(A, EMPTY, B)[0], maps(EMPTY)[0]])
    torch.testing.assert_close(values, torch.tensor([[1 / 2], [3 / 4], [math.nan]]), equal_nan=True)
    value, not_nans = metric.aggregate()
    torch.testing.assert_close((value.item(), not_nans.item()), (5 / 8, 2.0))
    options = {"num_classes": 3, "include_background": True, "empty": "ignore", "ignore_index": 2}
    weights = {"y_pred_weights": torch.tensor([[0.1, 0.9]]), "y_weights": torch.tensor([[0.3, 0.7]])}
    expected = compute_rater_dice(maps(A, [2, 1, 0, 0]), maps(B, EMPTY), **with_distance(options), **weights)
    torch.testing.assert_close(
        RaterDiceMetric(**with_distance(options))(maps(A, [2, 1, 0, 0]), maps(B, EMPTY), **weights), expected[:, None]
    )


def test_one_rater_and_a_missing_one():
    """Of a missing rater the map may hold anything, and the value is undefined."""
    answer = torch.tensor([[[0, 1, 1, 0]], [[0, 1, 1, 0]]])
    raters = torch.tensor([[[0, 0, 0, 0], [0, 0, 1, 1]], [[0, 1, 1, 0], [7, 7, 7, 7]]])
    weights = torch.tensor([[1.0, 1.0], [1.0, 0.0]])
    for rater, expected in ((0, [0.0, 1.0]), (1, [0.5, torch.nan])):
        found = compute_rater_dice(answer, raters, 2, rater=rater, y_weights=weights)
        torch.testing.assert_close(found, torch.tensor(expected), equal_nan=True)
    nonempty = compute_rater_dice(answer[:1], raters[:1], 2, rater=0, nonempty_raters=True)
    assert nonempty.isnan().all()
    with pytest.raises(ValueError, match="rater must be one of the 2 raters of y, 0 to 1, got 2"):
        compute_rater_dice(answer[:1], raters[:1], 2, rater=2)
