# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import pytest
import torch

from monai_stochseg.metrics import EntropyDecompositionMetric, PredictiveEntropyMetric

LOG2 = math.log(2)
P = torch.tensor([[0.5, 1.0, 0.0, 0.5], [0.5, 0.0, 1.0, 0.5]])


def test_by_hand() -> None:
    metric = PredictiveEntropyMetric()
    masks = torch.tensor([[[1, 1, 0, 0]], [[0, 0, 0, 0]]])
    values = metric(torch.stack([P, P]), mask=masks)
    assert values[0].item() == pytest.approx(LOG2 / 2)
    assert values[1].isnan()
    assert metric.aggregate().item() == pytest.approx(LOG2 / 2)  # the undefined item is left out
    assert metric([P, P[:, :1]]).tolist() == [[pytest.approx(LOG2 / 2)], [pytest.approx(LOG2)]]


@pytest.mark.parametrize("shape", [(6, 5), (4, 3, 5)])
def test_is_the_first_part_of_the_decomposition(shape) -> None:
    samples = torch.randn(2, 5, 3, *shape).softmax(2)
    whole = EntropyDecompositionMetric()(samples)[:, :1]
    torch.testing.assert_close(PredictiveEntropyMetric()(samples.mean(1)), whole)


def test_refuses() -> None:
    with pytest.raises(ValueError, match="y_pred must hold probabilities"):
        PredictiveEntropyMetric()(2 * P[None])
    with pytest.raises(ValueError, match="y must be None"):
        PredictiveEntropyMetric()(P[None], P[None] + 1)
