# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from monai_stochseg.metrics import UncertaintyCorrelationMetric, compute_uncertainty_correlation


def maps(*rows: list[int]) -> torch.Tensor:
    """Label maps ``[1, K, 1, V]`` of one item."""
    return torch.tensor(rows)[None, :, None]


# Foreground frequency 0, 1/2, 1, 0: the uncertainty 1 - sum_c s_mean_c^2 is 0, 1/2, 0, 0
S = maps([0, 0, 1, 0], [0, 1, 1, 0])
# 1 - s_mean_y is 0, 1/2, 0, 0 for SAME, 1, 1/2, 1, 1 for OPPOSITE and 0, 1/2, 1, 0 for EMPTY
SAME, OPPOSITE, EMPTY = [0, 1, 1, 0], [1, 0, 0, 1], [0, 0, 0, 0]
# deviations from the mean, up to a factor: -1, 3, -1, -1 and -3, 1, 5, -3
EMPTY_CORRELATION = 4 / (12 * 44) ** 0.5


@pytest.mark.parametrize(
    ("y", "options", "expected"),
    [
        (maps(SAME), {}, 1),
        (maps(OPPOSITE), {}, -1),
        (maps(EMPTY), {}, EMPTY_CORRELATION),
        (maps(SAME, SAME, OPPOSITE, OPPOSITE), {}, 0),
        (maps(SAME, OPPOSITE, SAME), {"y_weights": [[0.25, 0.25, 0.5]]}, 0.5),
        (maps(SAME, [9] * 4), {"y_weights": [[1.0, 0.0]]}, 1),
        # void under the mask
        (maps([0, 1, 1, 255]), {"mask": [[[[1, 1, 1, 0]]]]}, 1),
        # all samples that weigh agree
        (maps(SAME), {"y_pred_weights": [[1.0, 0.0]]}, math.nan),
        (maps(SAME), {"mask": [[[[0, 0, 0, 0]]]]}, math.nan),
        # one voxel is a constant
        (maps(SAME, OPPOSITE), {"mask": [[[[0, 1, 0, 0]]]]}, math.nan),
    ],
)
def test_by_hand(y: torch.Tensor, options: dict, expected: float) -> None:
    options = {name: torch.tensor(v) for name, v in options.items()}
    value = compute_uncertainty_correlation(S, y, num_classes=2, **options)
    assert value.shape == (1,)
    torch.testing.assert_close(value.item(), float(expected), equal_nan=True, rtol=0, atol=1e-6)


def test_a_rater_without_correlation_is_left_out() -> None:
    """1 - s_mean_y of the second rater is 1/2 in both voxels, while the uncertainty differs with a third class."""
    s = maps([0, 0], [1, 0], [0, 1], [1, 2])  # frequency 1/2, 1/2, 0 and 1/2, 1/4, 1/4
    same, constant = [0, 1], [0, 0]  # 1/2, 3/4 and 1/2, 1/2; uncertainty 1/2, 5/8
    value = compute_uncertainty_correlation(s, maps(same, constant), num_classes=3)
    torch.testing.assert_close(value, torch.ones(1))


def _reference(s: np.ndarray, y: np.ndarray) -> float:
    """The definition for samples ``[N, C, V]`` and one-hot raters ``[R, C, V]``, cross entropy by cross entropy."""
    mean = s.mean(0)
    uncertainty = np.mean([-(mean * np.log(x)).sum(0) for x in s], axis=0)
    return float(
        np.mean([np.corrcoef(uncertainty, np.mean([-(r * np.log(x)).sum(0) for x in s], axis=0))[0, 1] for r in y])
    )


def test_equals_the_definition() -> None:
    s, y = (2 * torch.randn(2, 5, 3, 6, 4)).softmax(2), torch.randint(3, (2, 4, 6, 4))
    one_hot = F.one_hot(y, 3).movedim(-1, 2)
    expected = [
        _reference(a.flatten(2).double().numpy(), r.flatten(2).numpy()) for a, r in zip(s, one_hot, strict=True)
    ]
    torch.testing.assert_close(compute_uncertainty_correlation(s, y), torch.tensor(expected), rtol=0, atol=1e-5)


def test_label_maps_are_certain_probabilities() -> None:
    s, y = torch.randint(3, (2, 5, 6, 4, 2)), torch.randint(3, (2, 4, 6, 4, 2))
    weights = torch.rand(2, 5).softmax(1)
    options = {
        "y_pred_weights": weights,
        "y_weights": torch.rand(2, 4).softmax(1),
        "mask": torch.rand(2, 1, 6, 4, 2) > 0.3,
    }
    probabilities = F.one_hot(s, 3).movedim(-1, 2).float()
    torch.testing.assert_close(
        compute_uncertainty_correlation(s, y, num_classes=3, **options),
        compute_uncertainty_correlation(probabilities, y, **options),
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_classes": None}, r"y_pred must be class probabilities of shape \[B, N, C, \*S\]"),
        ({"num_classes": None, "y_pred": torch.randn(1, 2, 2, 1, 4)}, "y_pred must hold probabilities that sum to 1"),
        ({"num_classes": 1}, "num_classes .* at least 2, got 1"),
        ({"y": maps([0, 0, 0, 2])}, "y has label 2"),
        ({"y_pred": maps([0, 0, 0, -1])}, "y_pred has label -1"),
        ({"y": maps([0, 1])}, "y_pred and y must agree"),
        ({"mask": torch.ones(1, 4)}, "mask must have shape"),
        ({"y_weights": torch.tensor([[0.0]])}, "y_weights must be .* one weight for each map"),
    ],
)
def test_rejects(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compute_uncertainty_correlation(**{"y_pred": S, "y": maps(SAME), "num_classes": 2, **options})


def test_metric() -> None:
    metric = UncertaintyCorrelationMetric(num_classes=2, get_not_nans=True)
    values = metric([S[0], S[0], S[0, :1]], [maps(EMPTY)[0], maps(SAME, SAME, OPPOSITE, OPPOSITE)[0], maps(SAME)[0]])
    torch.testing.assert_close(values, torch.tensor([[EMPTY_CORRELATION], [0.0], [math.nan]]), equal_nan=True)
    value, not_nans = metric.aggregate()
    torch.testing.assert_close((value.item(), not_nans.item()), (EMPTY_CORRELATION / 2, 2.0))
    options = {"y_weights": torch.tensor([[0.75, 0.25]]), "mask": torch.tensor([[[[1, 1, 1, 0]]]])}
    expected = compute_uncertainty_correlation(S, maps(SAME, EMPTY), num_classes=2, **options)
    torch.testing.assert_close(metric(S, maps(SAME, EMPTY), **options), expected[:, None])
