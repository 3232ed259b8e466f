# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
from itertools import permutations

import pytest
import torch

from monai_stochseg.metrics import (
    HungarianMatchedIoUMetric,
    compute_hungarian_matched_iou,
    compute_pairwise_distance,
)

NAN = float("nan")


def maps(*rows: list[int]) -> torch.Tensor:
    """Label maps ``[1, K, 1, V]`` of one item."""
    return torch.tensor(rows)[None, :, None]


# IoU(A, B) = 1/3, IoU(A, C) = 1/2, IoU(B, C) = 0, IoU(., EMPTY) = 0
A, B, C, EMPTY = [0, 1, 1, 0], [0, 0, 1, 1], [0, 1, 0, 0], [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("y_pred", "y", "options", "expected"),
    [
        (maps(A), maps(A), {}, 1),
        (maps(A), maps(B), {}, 1 / 3),
        (maps(A, B), maps(B, A), {}, 1),
        # A to B and EMPTY to A is worse than A to A and EMPTY to B
        (maps(A, EMPTY), maps(B, A), {}, 1 / 2),
        # greedy would take A to A; A, A to A, B: (1 + 1/3) / 2
        (maps(A), maps(A, B), {}, 2 / 3),
        # B, C to A, A: (1/3 + 1/2) / 2, B, C to A, B: (1/2 + 1) / 2
        (maps(B, C), maps(A), {}, 5 / 12),
        (maps(B, C), maps(A, B), {}, 3 / 4),
        # A A A B B B to A A B B C C: A A B B, and A to C, B to C
        (maps(A, B), maps(A, B, C), {}, (4 + 1 / 2) / 6),
        (maps(EMPTY), maps(EMPTY, A), {}, 1 / 2),
        (maps(EMPTY), maps(EMPTY, A), {"empty": "ignore"}, NAN),
        (maps(A), maps(B), {"include_background": True}, 1 / 3),
        # voxel 3 is void: 1/2
        (maps(A), maps([0, 0, 1, 255]), {"ignore_index": 255}, 1 / 2),
        (maps(A, B), maps(A, B, EMPTY), {"y_weights": [[0.5, 0.5, 0.0]]}, 1),
        (maps(A, B), maps(A, [9] * 4), {"y_weights": [[1.0, 0.0]]}, 2 / 3),
        (maps(A, B), maps(A, B), {"y_pred_weights": [[0.0, 1.0]]}, 2 / 3),
    ],
)
def test_by_hand(y_pred: torch.Tensor, y: torch.Tensor, options: dict, expected: float) -> None:
    options = {name: torch.tensor(v) if name.endswith("weights") else v for name, v in options.items()}
    value = compute_hungarian_matched_iou(y_pred, y, num_classes=2, **options)
    assert value.shape == (1,)
    torch.testing.assert_close(value.item(), float(expected), equal_nan=True, rtol=0, atol=1e-6)


def test_equals_the_best_of_all_matchings() -> None:
    s, r = torch.randint(3, (3, 2, 4, 4)), torch.randint(3, (3, 3, 4, 4))
    iou = 1 - compute_pairwise_distance(s.repeat(1, 3, 1, 1), r.repeat(1, 2, 1, 1), num_classes=3)
    expected = [max(sum(m[i, j] for i, j in enumerate(p)) / 6 for p in permutations(range(6))) for m in iou]
    torch.testing.assert_close(compute_hungarian_matched_iou(s, r, num_classes=3), torch.stack(expected))


def test_identities() -> None:
    s, r = torch.randint(3, (2, 4, 5, 4, 3)), torch.randint(3, (2, 6, 5, 4, 3))
    expected = compute_hungarian_matched_iou(s, r, num_classes=3)
    torch.testing.assert_close(compute_hungarian_matched_iou(r, s, num_classes=3), expected)
    torch.testing.assert_close(compute_hungarian_matched_iou(s.flip(1), r.roll(2, 1), num_classes=3), expected)
    torch.testing.assert_close(compute_hungarian_matched_iou(s.repeat(1, 3, 1, 1, 1), r, num_classes=3), expected)
    torch.testing.assert_close(compute_hungarian_matched_iou(s, s.flip(1), num_classes=3), torch.ones(2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"y_weights": [[0.25, 0.75]]}, "y_weights must be equal wherever they are positive.*give 0 to a map"),
        ({"y_pred_weights": [[0.6, 0.4]]}, "y_pred_weights must be equal wherever they are positive"),
        ({"y_weights": [[0.5, 0.4]]}, "y_weights must sum to 1"),
        ({"y": maps(A, [0, 0, 0, 5])}, "y has label 5"),
        ({"y": maps([0, 1])}, "y_pred and y must agree"),
        ({"empty": "skip"}, "skip"),
    ],
)
def test_rejects(options: dict, message: str) -> None:
    options = {name: torch.tensor(v) if name.endswith("weights") else v for name, v in options.items()}
    with pytest.raises(ValueError, match=message):
        compute_hungarian_matched_iou(**{"y_pred": maps(A, B), "y": maps(A, B), "num_classes": 2, **options})


def test_metric() -> None:
    metric = HungarianMatchedIoUMetric(num_classes=2, empty="ignore", get_not_nans=True)
    # a list, in which the second item has one rater more; then an undefined item
    values = metric([maps(A)[0], maps(A)[0]], [maps(B)[0], maps(A, B)[0]])
    torch.testing.assert_close(values, torch.tensor([[1 / 3], [2 / 3]]))
    metric(maps(EMPTY), maps(EMPTY))
    value, not_nans = metric.aggregate()
    torch.testing.assert_close((value.item(), not_nans.item()), (0.5, 2.0))
    metric.reset()
    values = metric([maps(A)[0]] * 2, [maps(A, B)[0]] * 2, y_weights=torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    torch.testing.assert_close(values, torch.tensor([[1.0], [1 / 3]]))
    metric.reset()
    metric(maps(EMPTY), maps(EMPTY))
    assert math.isnan(metric.aggregate()[0].item())


def test_metric_passes_its_options_on() -> None:
    options = {"num_classes": 3, "include_background": True, "empty": "ignore", "ignore_index": 7}
    s, r = torch.randint(3, (1, 3, 8, 8)), torch.randint(3, (1, 2, 8, 8))
    r[..., 0] = 7
    expected = compute_hungarian_matched_iou(s, r, **options)
    torch.testing.assert_close(HungarianMatchedIoUMetric(**options)(s, r), expected[:, None])
