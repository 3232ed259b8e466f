# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
from itertools import permutations

import pytest
import torch
from distance_options import with_distance

from monai_stochseg.metrics import (
    HungarianMatchedIoUMetric,
    LabelMapDistance,
    compute_hungarian_matched_iou,
    compute_pairwise_distance,
    hungarian_matched_iou,
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
        (maps(EMPTY), maps(EMPTY), {"empty": "miss"}, 0),
        (maps(EMPTY, A), maps(EMPTY, A), {"empty": "miss"}, 1 / 2),
        (maps(A), maps(B), {"include_background": True}, 1 / 3),
        # voxel 3 is void: 1/2
        (maps(A), maps([0, 0, 1, 255]), {"ignore_index": 255}, 1 / 2),
        (maps(A, B), maps(A, B, EMPTY), {"y_weights": [[0.5, 0.5, 0.0]]}, 1),
        (maps(A, B), maps(A, [9] * 4), {"y_weights": [[1.0, 0.0]]}, 2 / 3),
        (maps(A, B), maps(A, B), {"y_pred_weights": [[0.0, 1.0]]}, 2 / 3),
        # 1/4 of A to A, 1/2 of B to B, and 1/4 of A is left for B
        (maps(A, B), maps(A, B), {"y_weights": [[0.25, 0.75]]}, 3 / 4 + 1 / 4 * 1 / 3),
        (maps(A, B), maps(A, B), {"y_pred_weights": [[0.25, 0.75]], "y_weights": [[0.25, 0.75]]}, 1),
        (maps(B), maps(A, B), {"y_weights": [[0.1, 0.9]]}, 0.9 + 0.1 / 3),
        (maps(EMPTY, A), maps(A, EMPTY, B), {"y_weights": [[0.3, 0.2, 0.5]]}, 0.2 + 0.3 + 0.2 / 3),
        (maps(EMPTY), maps(EMPTY, A), {"empty": "ignore", "y_weights": [[0.25, 0.75]]}, NAN),
        # class 1 alone, or 2 alone
        (maps([0, 1, 1, 2]), maps([0, 1, 1, 1]), {"num_classes": 3, "classes": [1]}, 2 / 3),
        (maps([0, 1, 1, 2]), maps([0, 1, 1, 1]), {"num_classes": 3, "classes": [2]}, 0),
    ],
)
def test_by_hand(y_pred: torch.Tensor, y: torch.Tensor, options: dict, expected: float) -> None:
    options = {name: torch.tensor(v) if name.endswith("weights") else v for name, v in options.items()}
    value = compute_hungarian_matched_iou(y_pred, y, **with_distance({"num_classes": 2, **options}))
    assert value.shape == (1,)
    torch.testing.assert_close(value.item(), float(expected), equal_nan=True, rtol=0, atol=1e-6)


def test_equals_the_best_of_all_matchings() -> None:
    s, r = torch.randint(3, (3, 2, 4, 4)), torch.randint(3, (3, 3, 4, 4))
    iou = 1 - compute_pairwise_distance(s.repeat(1, 3, 1, 1), r.repeat(1, 2, 1, 1), distance=3)
    expected = [max(sum(m[i, j] for i, j in enumerate(p)) / 6 for p in permutations(range(6))) for m in iou]
    torch.testing.assert_close(compute_hungarian_matched_iou(s, r, distance=3), torch.stack(expected))


def test_a_transport_equals_the_best_of_all_matchings() -> None:
    """A map of weight k / 6 is k maps of weight 1/6."""
    s, r = torch.randint(3, (3, 3, 4, 4)), torch.randint(3, (3, 2, 4, 4))
    m, n = torch.tensor([1, 3, 2]), torch.tensor([1, 5])
    iou = 1 - compute_pairwise_distance(s.repeat_interleave(m, 1), r.repeat_interleave(n, 1), distance=3)
    expected = [max(sum(x[i, j] for i, j in enumerate(p)) / 6 for p in permutations(range(6))) for x in iou]
    weights = {"y_pred_weights": (m / 6).expand(3, 3), "y_weights": (n / 6).expand(3, 2)}
    torch.testing.assert_close(compute_hungarian_matched_iou(s, r, distance=3, **weights), torch.stack(expected))


def test_both_solvers_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    s, r = torch.randint(3, (4, 12, 5, 5)), torch.randint(3, (4, 6, 5, 5))
    expected = compute_hungarian_matched_iou(s, r, distance=3)
    monkeypatch.setattr(hungarian_matched_iou, "linear_sum_assignment", None)
    # the same sets, in which a rater is two maps or all are three
    twice = torch.tensor([1, 5, *[6] * 5]).expand(4, 7) / 36
    value = compute_hungarian_matched_iou(s, torch.cat([r[:, :1], r], 1), distance=3, y_weights=twice)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(compute_hungarian_matched_iou(s, r.repeat(1, 3, 1, 1), distance=3), expected)


def test_a_transport_that_is_not_solved_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hungarian_matched_iou, "_MAX_ITERATIONS", 1)
    s, r = torch.randint(3, (1, 12, 5, 5)), torch.randint(3, (1, 7, 5, 5))
    message = "12 samples and 7 raters has not been solved: numItermax reached"
    with pytest.warns(UserWarning, match="numItermax"), pytest.raises(RuntimeError, match=message):
        compute_hungarian_matched_iou(s, r, distance=3)


def test_identities() -> None:
    s, r = torch.randint(3, (2, 4, 5, 4, 3)), torch.randint(3, (2, 6, 5, 4, 3))
    expected = compute_hungarian_matched_iou(s, r, distance=3)
    torch.testing.assert_close(compute_hungarian_matched_iou(r, s, distance=3), expected)
    torch.testing.assert_close(compute_hungarian_matched_iou(s.flip(1), r.roll(2, 1), distance=3), expected)
    torch.testing.assert_close(compute_hungarian_matched_iou(s.repeat(1, 3, 1, 1, 1), r, distance=3), expected)
    torch.testing.assert_close(compute_hungarian_matched_iou(s, s.flip(1), distance=3), torch.ones(2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"y_pred_weights": [[1.4, -0.4]]}, "y_pred_weights must be .* one weight for each map"),
        ({"y_weights": [[0.5, 0.25, 0.25]]}, "y_weights must be .* one weight for each map"),
        ({"y_weights": [[0.5, -0.4]]}, "y_weights must be .* one weight for each map"),
        ({"y": maps(A, [0, 0, 0, 5])}, "y has label 5"),
        ({"y": maps([0, 1])}, "y_pred and y must agree"),
        ({"empty": "skip"}, "skip"),
    ],
)
def test_rejects(options: dict, message: str) -> None:
    options = {name: torch.tensor(v) if name.endswith("weights") else v for name, v in options.items()}
    with pytest.raises(ValueError, match=message):
        compute_hungarian_matched_iou(
            **with_distance({"y_pred": maps(A, B), "y": maps(A, B), "num_classes": 2, **options})
        )


def test_metric() -> None:
    metric = HungarianMatchedIoUMetric(LabelMapDistance(2, empty="ignore"), get_not_nans=True)
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
    expected = compute_hungarian_matched_iou(s, r, **with_distance(options))
    torch.testing.assert_close(HungarianMatchedIoUMetric(**with_distance(options))(s, r), expected[:, None])
