# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import pytest
import torch

from monai_stochseg.distributions import with_weights
from monai_stochseg.metrics import WeightEntropyMetric

MAPS = torch.zeros(2, 4, 3, dtype=torch.uint8)
# of the first 1/2 log 2 + 2 * 1/4 log 4, given unnormalised and with a missing sample; of the second one has all
WEIGHTS = torch.tensor([[2.0, 1.0, 1.0, 0.0], [0.0, 3.0, 0.0, 0.0]])
EXPECTED = [[pytest.approx(1.5 * math.log(2))], [0.0]]


def test_by_hand() -> None:
    assert WeightEntropyMetric()(MAPS).tolist() == [[pytest.approx(math.log(4))]] * 2
    metric = WeightEntropyMetric()
    assert metric(MAPS, y_pred_weights=WEIGHTS).tolist() == EXPECTED
    assert metric.aggregate().item() == pytest.approx(0.75 * math.log(2))
    carried = [with_weights(maps, weights) for maps, weights in zip(MAPS, WEIGHTS, strict=True)]
    assert WeightEntropyMetric()(carried).tolist() == EXPECTED


def test_several_samples_of_an_expert_add_their_number() -> None:
    gate = torch.tensor([[0.2, 0.8], [0.5, 0.5]])
    one = WeightEntropyMetric()(MAPS[:, :2], y_pred_weights=gate)
    two = WeightEntropyMetric()(MAPS, y_pred_weights=gate.repeat_interleave(2, 1) / 2)
    torch.testing.assert_close(two, one + math.log(2))


def test_refuses() -> None:
    with pytest.raises(ValueError, match="y_pred_weights"):
        WeightEntropyMetric()(MAPS, y_pred_weights=-WEIGHTS)
