# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import pytest
import torch

from monai_stochseg.distributions import with_weights
from monai_stochseg.metrics import CaseDiceMetric, compute_case_dice, compute_sample_dice

REGIONS = {"a": (1,), "b": (2,), "c": (3,)}


def maps(*rows: list[int]) -> torch.Tensor:
    return torch.tensor(rows)[None, :, None]  # [1, N, 1, W]


def test_a_sample_is_compared_once_and_not_by_class():
    """
    Of the answer the Dice is 1, 1 and 0, of a sample 2/3, 1 and 1/2: worse by class in one, better in another, and
    better as a case. Of the second sample it is 0, 0 and 1: better in class 3, and worse as a case.
    """
    y = maps([1, 1, 2, 3, 0, 0])
    answer, sample = [1, 1, 2, 0, 0, 0], [1, 0, 2, 3, 3, 3]
    by_class = compute_sample_dice(maps(answer, sample), y, REGIONS)[0, 2]
    assert by_class.tolist() == [0.0, 0.0, 1.0]
    values = compute_case_dice(maps(answer, sample), y, REGIONS)[0]
    dice = (2 / 3 + 1 + 2 / 4) / 3
    assert values.tolist() == pytest.approx([2 / 3, 1.0, *[dice] * 5])
    second = compute_case_dice(maps(answer, [0, 0, 0, 3, 0, 0]), y, REGIONS)[0]
    assert second.tolist() == pytest.approx([2 / 3, 0.0, *[1 / 3] * 5])


def test_quartiles_are_of_the_samples():
    """Dice 1, 2/3, 0 and 1, of an answer of 2/3."""
    y = maps([1, 1, 0])
    rows = maps([1, 0, 0], [1, 1, 0], [1, 0, 0], [0, 0, 0], [1, 1, 0])
    expected = [2 / 3, 0.5, 0.0, 0.0, 2 / 3, 1.0, 1.0]
    assert compute_case_dice(rows, y, {"a": (1,)})[0].tolist() == pytest.approx(expected)


@pytest.mark.parametrize("weighted", [False, True])
def test_weights_are_of_the_samples(weighted):
    """A weight of 3 is three samples, one of 0 is none, and that of the answer is not read."""
    y = maps([1, 1, 0])
    one = maps([1, 0, 0], [1, 1, 0], [0, 0, 0], [1, 0, 0])
    weights = torch.tensor([[0.0, 3.0, 1.0, 0.0]])
    metric = CaseDiceMetric({"a": (1,)})
    if weighted:
        metric(with_weights(one, weights), y)
    else:
        metric(one, y, y_pred_weights=weights)
    expected = compute_case_dice(maps([1, 0, 0], *[[1, 1, 0]] * 3, [0, 0, 0]), y, {"a": (1,)})
    torch.testing.assert_close(metric.rows(), expected)
    assert metric.rows()[0, 1].item() == pytest.approx(0.75)


def test_a_case_without_a_structure_is_undefined_and_left_out():
    metric = CaseDiceMetric({"a": (1,)})
    metric(maps([1, 0], [1, 1]), maps([0, 0]))
    metric(maps([1, 0], [1, 1]), maps([1, 1]))
    assert all(math.isnan(value) for value in metric.rows()[0])
    assert metric.aggregate().tolist() == pytest.approx([2 / 3, 1.0, *[1.0] * 5])
    assert len(metric.names) == 7


def test_rejects():
    with pytest.raises(ValueError, match="single answer and at least one sample, got 1 map"):
        compute_case_dice(maps([1]), maps([1]), REGIONS)
    with pytest.raises(ValueError, match="nothing to show: call"):
        CaseDiceMetric(REGIONS).rows()
    with pytest.raises(ValueError, match="at least one region"):
        CaseDiceMetric({})
