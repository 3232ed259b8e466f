# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import pytest
import torch
from monai.data import MetaTensor

from monai_stochseg.transforms import PredictiveEntropy, PredictiveEntropyd


def test_hand_computed_and_empty_classes():
    probabilities = torch.tensor([[1.0, 0.5, 0.25], [0.0, 0.5, 0.75]])[:, None]
    expected = [0.0, math.log(2), -0.25 * math.log(0.25) - 0.75 * math.log(0.75)]
    assert PredictiveEntropy()(probabilities).flatten().tolist() == pytest.approx(expected)


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 6)])
def test_dictionary_keeps_the_affine(shape):
    affine = torch.diag(torch.tensor([2.0, 2, 2, 1]))
    data = {"p": MetaTensor(torch.rand(3, *shape).softmax(0), affine=affine)}
    result = PredictiveEntropyd("p", "entropy")(data)
    assert result["entropy"].shape == (1, *shape)
    assert torch.equal(result["entropy"].affine, affine.double())
    assert "entropy" not in data
