# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from monai_stochseg.distributions import FlowOutput
from monai_stochseg.losses import FlowMatchingLoss

BATCH, CLASSES = 2, 3


def inputs(shape: tuple[int, ...] = (4, 5), raters: int = 1) -> tuple[FlowOutput, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(BATCH, CLASSES, *shape, generator=generator, dtype=torch.float64).requires_grad_()
    rater = torch.randint(0, raters, (BATCH,), generator=generator)
    return FlowOutput(logits, rater), torch.randint(0, CLASSES, (BATCH, raters, *shape), generator=generator)


def test_a_hand_computed_case():
    logits = torch.tensor([[[[0.0, math.log(3)]], [[0.0, 0.0]]]])  # probabilities 1/2, and 3/4 of the first class
    value = FlowMatchingLoss()(FlowOutput(logits, torch.tensor([0])), torch.tensor([[[[1, 0]]]]))
    assert value.item() == pytest.approx((math.log(2) - math.log(0.75)) / 2)


@pytest.mark.parametrize("shape", [(4, 5), (2, 3, 4)])
def test_value_and_gradient_equal_the_plain_formula(shape):
    given, target = inputs(shape, raters=3)
    target[0].flatten(1)[:, :4] = 255
    values = FlowMatchingLoss(255, reduction="none")(given, target)
    plain = torch.stack(
        [
            F.cross_entropy(logits[None], y[rater][None], ignore_index=255)
            for logits, y, rater in zip(given.logits, target, given.rater, strict=True)
        ]
    )
    torch.testing.assert_close(values, plain)
    gradients = [torch.autograd.grad(v.sum(), given.logits)[0] for v in (values, plain)]
    torch.testing.assert_close(*gradients)
    for reduction in ("sum", "mean"):
        torch.testing.assert_close(
            FlowMatchingLoss(255, reduction=reduction)(given, target), getattr(values, reduction)()
        )


def test_an_item_of_void_voxels_costs_nothing():
    given, target = inputs()
    assert FlowMatchingLoss(255)(given, torch.full_like(target, 255)).item() == 0


def test_half_precision_is_computed_in_float32():
    given, target = inputs()
    half = FlowOutput(given.logits.detach().bfloat16(), given.rater)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = FlowMatchingLoss()(half, target)
    assert value.dtype == torch.float32


def test_a_missing_rater_is_not_read_and_must_not_be_drawn():
    given, target = inputs(raters=3)
    given = given._replace(rater=torch.tensor([0, 2]))
    weights = torch.tensor([[1.0, 0.0, 3.0], [0.0, 1.0, 1.0]])
    expected = FlowMatchingLoss()(given, target)
    target[0, 1], target[1, 0] = 255, -7
    torch.testing.assert_close(FlowMatchingLoss()(given, target, weights), expected, rtol=0, atol=0)
    with pytest.raises(ValueError, match=r"drew the raters \[0, 2\], one of whom is missing"):
        FlowMatchingLoss()(given, target, weights.flip(0))


def test_rejects_inputs():
    given, target = inputs()
    broken = given.logits.detach().clone()
    broken[1, 0, 0, 0] = torch.nan
    with pytest.raises(FloatingPointError, match="the logits of batch item 1 give nan"):
        FlowMatchingLoss()(given._replace(logits=broken), target)
    with pytest.raises(TypeError, match=r"input must be .*FlowOutput\(logits, rater\), got"):
        FlowMatchingLoss()(given.logits, target)
    with pytest.raises(ValueError, match="label 3, outside the 3 classes"):
        FlowMatchingLoss()(given, target + 1)
    with pytest.raises(ValueError, match="reduction must be one of"):
        FlowMatchingLoss(reduction="max")
