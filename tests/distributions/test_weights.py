# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor, decollate_batch
from monai.handlers import from_engine

from monai_stochseg.distributions import (
    ExpertMixtureDistribution,
    ExpertSamples,
    HypothesesDistribution,
    check_weights,
    draw_map,
    weights_of,
    with_weights,
)
from monai_stochseg.losses import OptimalTransportLoss, solve_coupling

MAPS = torch.zeros(2, 3, 4, 4)


@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64, torch.bool]
)
def test_weights_are_normalised(dtype):
    weights = check_weights(torch.tensor([[1, 1, 0], [0, 0, 1]], dtype=dtype), MAPS)
    torch.testing.assert_close(weights, torch.tensor([[0.5, 0.5, 0], [0, 0, 1]]).to(weights))
    assert weights.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


def test_thirds_in_half_precision_sum_to_one():
    weights = check_weights(torch.full((2, 3), 1 / 3, dtype=torch.float16), MAPS)
    torch.testing.assert_close(weights, torch.full((2, 3), 1 / 3))


def test_without_weights_all_maps_count_alike():
    torch.testing.assert_close(check_weights(None, MAPS), torch.full((2, 3), 1 / 3))


@pytest.mark.parametrize(
    "weights",
    [
        torch.ones(3),
        torch.ones(2, 4),
        torch.tensor([[1.0, 1, 1], [0, 0, 0]]),
        torch.tensor([[1.0, 1, -1], [1, 1, 1]]),
        torch.tensor([[1.0, 1, float("nan")], [1, 1, 1]]),
        torch.tensor([[1.0, 1, float("inf")], [1, 1, 1]]),
    ],
)
def test_no_weights_are_refused_by_name(weights):
    with pytest.raises(ValueError, match=r"y_weights must be \[2, 3\], one weight for each map"):
        check_weights(weights, MAPS, "y_weights")


def test_a_map_of_weight_zero_is_never_drawn():
    weights = torch.tensor([[0.5, 0.5, 0.0]]).expand(200, 3)
    drawn = draw_map(weights, torch.Generator().manual_seed(0))
    assert drawn.shape == (200,)
    assert set(drawn.tolist()) == {0, 1}
    torch.testing.assert_close(draw_map(weights, torch.Generator().manual_seed(0)), drawn)


def test_weights_go_with_their_item_through_monai():
    weights = torch.tensor([[0.9, 0.1, 0], [0, 0.5, 0.5]])
    maps = with_weights(MetaTensor(MAPS, affine=torch.eye(4)), weights)
    items = decollate_batch({"samples": maps, "label": with_weights(MAPS, None)})
    samples, labels = from_engine(["samples", "label"])(items)
    for item, expected in zip(samples, weights, strict=True):
        torch.testing.assert_close(torch.as_tensor(weights_of(item)), expected)
    assert weights_of(labels[0]) is None
    assert maps.data_ptr() == MAPS.data_ptr()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_thirds_sum_to_1_in_any_type(dtype) -> None:
    thirds, logits = torch.full((1, 3), 1 / 3, dtype=dtype), torch.zeros(1, 3, 2, 4, 4)
    HypothesesDistribution(logits, thirds)
    ExpertMixtureDistribution(thirds, torch.zeros(3, 1), torch.zeros(3), lambda z: logits[:, 0])
    solve_coupling(torch.ones(1, 4, 3), thirds, 1.0)
    label = torch.tensor([[[[0, 1]]]]).repeat(1, 3, 4, 2)
    OptimalTransportLoss()(ExpertSamples(logits, thirds, 3), label, thirds)


@pytest.mark.parametrize("wrong", [[0.5, 0.3, 0.3], [1.5, -0.5, 0.0], [float("nan"), 0.5, 0.5]])
def test_what_does_not_sum_to_1_is_refused(wrong) -> None:
    weights = torch.tensor([wrong])
    with pytest.raises(ValueError, match="weights must not be negative and sum to 1 per item"):
        HypothesesDistribution(torch.zeros(1, 3, 2, 4, 4), weights)
