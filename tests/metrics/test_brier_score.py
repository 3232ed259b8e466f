# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from monai_stochseg.metrics import BrierScoreMetric, compute_brier_score


def maps(*rows: list[int]) -> torch.Tensor:
    """Label maps ``[1, K, 1, V]`` of one item."""
    return torch.tensor(rows)[None, :, None]


def foreground(*p: float) -> torch.Tensor:
    """Probabilities ``[1, 2, 1, V]`` of one item."""
    return torch.tensor([[[[1 - x for x in p]], [list(p)]]])


@pytest.mark.parametrize(
    ("y_pred", "y", "options", "expected"),
    [
        (foreground(0.0, 1.0), maps([0, 1]), {}, 0),
        (foreground(1.0, 0.0), maps([0, 1]), {}, 2),
        (foreground(0.5, 0.5), maps([0, 1]), {}, 0.5),
        # the raters' frequency is 0, 1/2: (2 * 0.3^2 + 2 * 0.2^2) / 2
        (foreground(0.3, 0.7), maps([0, 0], [0, 1]), {}, 0.13),
        (foreground(0.3, 0.7), maps([0, 0], [0, 1]), {"y_weights": [[0.3, 0.7]]}, 0.09),
        (foreground(0.3, 0.7), maps([9, 9], [0, 1]), {"y_weights": [[0.0, 1.0]]}, 0.18),
        (foreground(0.3, 0.7), maps([255, 0], [0, 1]), {"mask": [[[[0, 1]]]]}, 0.08),
        (foreground(0.3, 0.7), maps([0, 0]), {"mask": [[[[0, 0]]]]}, math.nan),
        (foreground(0.0, 0.0), maps([0, 0], [0, 0]), {}, 0),
    ],
)
def test_by_hand(y_pred: torch.Tensor, y: torch.Tensor, options: dict, expected: float) -> None:
    value = compute_brier_score(y_pred, y, **{name: torch.tensor(v) for name, v in options.items()})
    assert value.shape == (1,)
    torch.testing.assert_close(value.item(), float(expected), equal_nan=True, rtol=0, atol=1e-6)


def test_against_one_rater_at_a_time() -> None:
    """The mean of the raters' own scores is greater by their disagreement."""
    p, y = torch.randn(2, 4, 5, 5, 3).softmax(1), torch.randint(4, (2, 3, 5, 5, 3))
    one_hot = F.one_hot(y, 4).movedim(-1, 2).float()
    each = (p[:, None] - one_hot).square().sum(2).mean((1, 2, 3, 4))
    frequency = one_hot.mean(1)
    disagreement = (frequency * (1 - frequency)).sum(1).mean((1, 2, 3))
    torch.testing.assert_close(compute_brier_score(p, y), each - disagreement)
    torch.testing.assert_close(compute_brier_score(frequency, y), torch.zeros(2))


def test_rejects_what_is_no_tensor() -> None:
    with pytest.raises(TypeError, match="y_pred must be a tensor of real numbers, got"):
        compute_brier_score([[0.5]], maps([0]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"y_pred": torch.tensor([[[[2.0, -1.0]], [[0.5, 0.5]]]])}, "sum to 1 over C, got values from -1"),
        ({"y_pred": foreground(math.nan, 0.5)}, "y_pred must hold probabilities that sum to 1"),
        ({"y_pred": torch.ones(1, 1, 1, 2)}, r"shape \[B, C, \*S\] with C of at least 2, got \(1, 1, 1, 2\)"),
        ({"y": maps([0, 2])}, "y has label 2, outside the 2 classes 0 to 1: set num_classes, or leave void voxels out"),
        ({"y": maps([0, 1]) + 0.5}, "y must hold integer class labels, got 0.5"),
        ({"y": maps([0, 256]).short()}, "y has label 256"),
        ({"y": maps([0, 1, 1])}, "y_pred and y must agree"),
        ({"mask": torch.ones(1, 2, 1, 2)}, r"mask must have shape \[B, 1, \*S\] = \(1, 1, 1, 2\), got \(1, 2, 1, 2\)"),
        ({"y_weights": torch.tensor([[0.0]])}, "y_weights must be .* one weight for each map"),
    ],
)
def test_rejects(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compute_brier_score(**{"y_pred": foreground(0.5, 0.5), "y": maps([0, 1]), **options})


def test_metric() -> None:
    metric = BrierScoreMetric(get_not_nans=True)
    p, y = foreground(0.3, 0.7), maps([0, 0], [0, 1])
    values = metric([p[0], p[0]], [y[0], y[0, 1:]])
    torch.testing.assert_close(values, torch.tensor([[0.13], [0.18]]))
    metric(p, y, mask=torch.zeros(1, 1, 1, 2))
    value, not_nans = metric.aggregate()
    torch.testing.assert_close((value.item(), not_nans.item()), (0.155, 2.0))
    values = metric(p, y, y_weights=torch.tensor([[0.0, 1.0]]))
    torch.testing.assert_close(values, torch.tensor([[0.18]]))
