# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from distance_options import with_distance
from monai.metrics import compute_dice

from monai_stochseg.metrics import LabelMapDistance, MaximumDiceMatchMetric, compute_maximum_dice_match

NAN = float("nan")


def maps(*rows: list[int]) -> torch.Tensor:
    """Label maps ``[1, K, 1, V]`` of one item."""
    return torch.tensor(rows)[None, :, None]


# Dice(A, B) = 1/2, Dice(A, C) = 2/3, Dice(B, C) = 0, Dice(., EMPTY) = 0
A, B, C, EMPTY = [0, 1, 1, 0], [0, 0, 1, 1], [0, 1, 0, 0], [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("y_pred", "y", "options", "expected"),
    [
        (maps(A), maps(B), {}, 1 / 2),
        (maps(B, C), maps(A), {}, 2 / 3),
        (maps(A, C), maps(A, B), {}, 3 / 4),
        (maps(A), maps(A, EMPTY), {}, 1 / 2),
        (maps(A, EMPTY), maps(A, EMPTY), {}, 1),
        (maps(A, EMPTY), maps(A, EMPTY), {"empty": "ignore"}, NAN),
        (maps(A, EMPTY), maps(A, B), {"empty": "ignore"}, 3 / 4),
        (maps(A), maps(A, B), {"y_weights": [[0.25, 0.75]]}, 1 / 4 + 3 / 8),
        (maps(A), maps(B, [9] * 4), {"y_weights": [[1.0, 0.0]]}, 1 / 2),
        # a sample's weight does not count, save that it has one
        (maps(A, B), maps(B), {"y_pred_weights": [[0.99, 0.01]]}, 1),
        (maps(A, B, [9] * 4), maps(B), {"y_pred_weights": [[1.0, 0.0, 0.0]]}, 1 / 2),
        (maps(A, [1, 2, 0, 0]), maps([2, 2, 0, 0]), {"num_classes": 3, "classes": [2]}, 2 / 3),
        # voxel 3 is void: 2 / 3
        (maps(A), maps([0, 0, 1, 255]), {"ignore_index": 255}, 2 / 3),
        (maps(A), maps(EMPTY), {"include_background": True}, (0 + 4 / 6) / 2),
    ],
)
def test_by_hand(y_pred: torch.Tensor, y: torch.Tensor, options: dict, expected: float) -> None:
    options = {name: torch.tensor(v) if name.endswith("weights") else v for name, v in options.items()}
    value = compute_maximum_dice_match(y_pred, y, **with_distance({"num_classes": 2, **options}))
    assert value.shape == (1,)
    torch.testing.assert_close(value.item(), float(expected), equal_nan=True, rtol=0, atol=1e-6)


def test_equals_monais_dice() -> None:
    s, r = torch.randint(2, (2, 5, 4, 4, 4)), torch.randint(2, (2, 3, 4, 4, 4))
    dice = torch.stack([torch.stack([compute_dice(s[:, [n]], r[:, [k]])[:, 0] for k in range(3)]) for n in range(5)])
    torch.testing.assert_close(compute_maximum_dice_match(s, r, distance=2), dice.amax(0).mean(0))


def test_identities() -> None:
    s, r = torch.randint(3, (2, 4, 5, 4)), torch.randint(3, (2, 3, 5, 4))
    few, many = (compute_maximum_dice_match(s[:, :n], r, distance=3) for n in (2, 4))
    assert (few <= many).all()
    torch.testing.assert_close(compute_maximum_dice_match(torch.cat([s, r], 1), r, distance=3), torch.ones(2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"y_weights": torch.tensor([[0.5, -0.4]])}, "y_weights must be .* one weight for each map"),
        ({"y_pred_weights": torch.tensor([[0.5, -0.4]])}, "y_pred_weights must be .* one weight for each map"),
        ({"y": maps(A, [0, 0, 0, 5])}, "y has label 5"),
        ({"y": maps([0, 1])}, "y_pred and y must agree"),
        ({"num_classes": 1}, "num_classes"),
    ],
)
def test_rejects(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compute_maximum_dice_match(
            **with_distance({"y_pred": maps(A, B), "y": maps(A, B), "num_classes": 2, **options})
        )


def test_metric() -> None:
    metric = MaximumDiceMatchMetric(LabelMapDistance(2, empty="ignore"), get_not_nans=True)
    values = metric([maps(A)[0], maps(A)[0]], [maps(B)[0], maps(A, B)[0]])
    torch.testing.assert_close(values, torch.tensor([[1 / 2], [3 / 4]]))
    metric(maps(EMPTY), maps(EMPTY))
    value, not_nans = metric.aggregate()
    torch.testing.assert_close((value.item(), not_nans.item()), (5 / 8, 2.0))
    weighted = MaximumDiceMatchMetric(LabelMapDistance(2, include_background=True, ignore_index=7))
    values = weighted(maps(EMPTY), maps(A, EMPTY), y_weights=torch.tensor([[1.0, 0.0]]))
    torch.testing.assert_close(values, torch.tensor([[1 / 3]]))
