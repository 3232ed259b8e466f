# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor

from monai_stochseg.metrics import compute_entropy_decomposition
from monai_stochseg.transforms import MutualInformationd, PredictiveEntropyd


def test_it_is_the_part_that_the_samples_differ_in() -> None:
    samples = torch.randn(1, 5, 3, 4, 6, generator=torch.Generator().manual_seed(0)).softmax(2)
    parts = compute_entropy_decomposition(samples)
    item = {"p": MetaTensor(samples.mean(1)[0]), "expected": parts.expected[0]}
    item = MutualInformationd("entropy", "expected", "information")(PredictiveEntropyd("p", "entropy")(item))
    torch.testing.assert_close(item["information"].as_tensor(), parts.mutual_information[0], atol=1e-6, rtol=1e-5)
    assert isinstance(item["information"], MetaTensor)


def test_rounding_is_cut_at_zero_and_other_keys_stay() -> None:
    item = {"a": torch.tensor([[0.3]]), "b": torch.tensor([[0.3000001]]), "c": 1}
    found = MutualInformationd(["a"], ["b"], ["i"])(item)
    assert (found["i"].item(), found["c"]) == (0.0, 1)
    assert "i" not in MutualInformationd("x", "b", "i", allow_missing_keys=True)(item)


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        (torch.zeros(1, 3), ValueError, "must have one shape"),
        (torch.tensor([[float("nan")]]), ValueError, "b must be an entropy"),
        ([0.3], TypeError, "b must be a tensor"),
    ],
)
def test_wrong_entropies_are_named(wrong, error, message) -> None:
    with pytest.raises(error, match=message):
        MutualInformationd("a", "b", "i")({"a": torch.tensor([[0.3]]), "b": wrong})
