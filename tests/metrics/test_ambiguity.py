# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch

from monai_stochseg.metrics import (
    AmbiguityAccuracyMetric,
    EmptyFractionCorrelationMetric,
    compute_ambiguity,
    fit_ambiguity_threshold,
)

A, B, EMPTY = [0, 1, 1, 0], [0, 0, 0, 2], [0, 0, 0, 0]


def maps(*rows: list[int]) -> torch.Tensor:
    """Label maps ``[1, K, 1, V]`` of one item."""
    return torch.tensor(rows)[None, :, None]


@pytest.mark.parametrize(
    ("y_pred", "y", "options", "expected"),
    [
        (maps(A, EMPTY), maps(A, EMPTY, EMPTY, EMPTY), {}, [1 / 2, 1 / 4]),
        (maps(A), maps(EMPTY), {}, [1, 0]),
        (maps(A, B, EMPTY, A), maps(B), {}, [1 / 2, 0]),
        (maps(A, B, EMPTY, A), maps(B), {"classes": (1, 2)}, [3 / 4, 1]),
        (maps(A, B).to(torch.uint8), maps(B).float(), {"classes": (2, 300)}, [1 / 2, 1]),
        (maps(A, EMPTY), maps(A, [1] * 4), {"y_weights": torch.tensor([[1.0, 0.0]])}, [1 / 2, 1]),
        (maps(A, EMPTY), maps(A), {"y_pred_weights": torch.tensor([[0.3, 0.7]])}, [0.3, 1]),
    ],
)
def test_by_hand(y_pred: torch.Tensor, y: torch.Tensor, options: dict, expected: list[float]) -> None:
    value = compute_ambiguity(y_pred, y, **options)
    torch.testing.assert_close(value, torch.tensor([expected], dtype=torch.float32))


@pytest.mark.parametrize("n", [3, 10, 49, 100])
def test_all_or_none_is_exact(n: int) -> None:
    shares = compute_ambiguity(maps(A).repeat(1, n, 1, 1), maps(EMPTY).repeat(1, n, 1, 1))
    assert shares.tolist() == [[1, 0]]


@pytest.mark.parametrize(
    ("shown", "threshold", "raters", "expected"),
    [
        (0, 0.0, [A, EMPTY], 0),
        (0, 0.0, [A, A], 1),
        (0, 0.0, [EMPTY], 1),
        (1, 0.0, [A, EMPTY], 1),
        (9, 0.0, [A, EMPTY], 1),
        (10, 0.0, [A, EMPTY], 0),
        # the interval is open at both of its ends
        (1, 0.1, [A, EMPTY], 0),
        (9, 0.1, [A, EMPTY], 0),
        (2, 0.1, [A, EMPTY], 1),
        (8, 0.1, [A, A], 0),
        (9, 0.1, [A, A], 1),
    ],
)
def test_accuracy_of_ten_samples(shown: int, threshold: float, raters: list, expected: float) -> None:
    samples = maps(*[A] * shown, *[EMPTY] * (10 - shown))
    assert AmbiguityAccuracyMetric(threshold)(samples, maps(*raters)).tolist() == [[expected]]


def test_metric() -> None:
    metric = AmbiguityAccuracyMetric(get_not_nans=True, classes=(2,))
    values = metric([maps(B, EMPTY)[0], maps(A)[0]], [maps(B, EMPTY, A)[0], maps(B, EMPTY)[0]])
    assert values.tolist() == [[1], [0]]
    metric(maps(B, EMPTY), maps(B, EMPTY), y_pred_weights=torch.tensor([[1.0, 0.0]]))
    metric(maps(B, EMPTY), maps(B, EMPTY), y_weights=torch.tensor([[1.0, 0.0]]))
    value, not_nans = metric.aggregate()
    assert (value.item(), not_nans.item()) == (0.25, 4)


def test_rejects() -> None:
    with pytest.raises(ValueError, match=r"threshold must lie in \[0, 0.5\), got 0.5"):
        AmbiguityAccuracyMetric(0.5)
    with pytest.raises(ValueError, match="classes must name one or more"):
        AmbiguityAccuracyMetric(classes=())
    with pytest.raises(ValueError, match="classes must name one or more"):
        compute_ambiguity(maps(A), maps(A), classes=())
    with pytest.raises(ValueError, match="y_pred and y must agree"):
        compute_ambiguity(maps(A), maps([0, 1]))


def test_a_void_voxel_is_left_out_of_all_maps_of_the_item() -> None:
    samples, raters = maps([1, 0, 0, 1], [0, 0, 0, 0]), maps([255, 0, 0, 1], [0, 0, 0, 0])
    samples[..., -1], raters[0, 0, 0, 3] = 0, 0  # the structure is left in the void voxel alone
    for void in (255, -1):
        value = compute_ambiguity(samples, raters.masked_fill(raters == 255, void), ignore_index=void)
        assert value.tolist() == [[0, 0]]
    assert compute_ambiguity(samples, raters).tolist() == [[1 / 2, 0]]


def test_an_item_of_void_voxels_is_undefined() -> None:
    void = torch.full((2, 1, 1, 3), 255)
    void[1] = 1
    assert AmbiguityAccuracyMetric(ignore_index=255)(void, void)[:, 0].isnan().tolist() == [True, False]
    assert EmptyFractionCorrelationMetric(ignore_index=255)(void, void)[0].isnan().all()


def test_a_negative_label_must_be_void() -> None:
    with pytest.raises(ValueError, match="y has the label -1, which is negative: name a void label as ignore_index"):
        compute_ambiguity(maps(A), maps([0, -1, 0, 0]), ignore_index=255)


@pytest.mark.parametrize(
    ("samples", "raters", "threshold", "accuracy"),
    [
        ([0.1, 0.9, 0.4, 0.7], [0, 1, 0.5, 0.25], 0.1, 1),
        ([0.9, 0.1, 0.6, 0.3], [1, 0, 0.5, 0.75], 0.1, 1),  # shown or not is the same question
        ([0, 1, 0.2], [0, 1, 0.5], 0, 1),  # any disagreement
        ([0.1, 0.2, 0.3], [0.5, 0, 0.5], 0, 2 / 3),  # of 0 and 0.2 the lowest
        ([0.5, 0.3], [0, 0], 0.3, 1 / 2),  # half and half is ambiguous by any threshold
        ([torch.nan, 0.3], [0, 0], 0.3, 1),
    ],
)
def test_the_threshold_that_is_right_most_often(samples, raters, threshold, accuracy) -> None:
    shares = torch.tensor([samples, raters]).T
    assert fit_ambiguity_threshold(shares) == pytest.approx((threshold, accuracy))


def test_the_fitted_threshold_has_its_accuracy_as_a_metric() -> None:
    """Of ten samples each; the fractions of the correlation are as good as the shares."""
    torch.manual_seed(0)
    samples, raters = (torch.rand(30, n, 1, 1) < torch.rand(30, 1, 1, 1) for n in (10, 2))
    empty = EmptyFractionCorrelationMetric()
    empty(samples.long(), raters.long())
    threshold, accuracy = fit_ambiguity_threshold(empty.fractions())
    assert threshold > 0
    assert (threshold, accuracy) == pytest.approx(fit_ambiguity_threshold(1 - empty.fractions()))
    for other in (threshold, 0.0, 0.2, 0.4):
        value = AmbiguityAccuracyMetric(other)(samples.long(), raters.long()).mean()
        assert value == pytest.approx(accuracy) if other == threshold else value <= accuracy


def test_no_threshold_without_shares() -> None:
    for wrong, message in (
        (torch.zeros(3), r"shares must have shape \[items, 2\], got \(3,\)"),
        (torch.full((2, 2), torch.nan), "at least one item without NaN, got 2 items"),
        (torch.tensor([[0.5, 1.5]]), r"shares must lie in \[0, 1\]"),
    ):
        with pytest.raises(ValueError, match=message):
            fit_ambiguity_threshold(wrong)
