# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from monai_stochseg.losses import RaterCrossEntropyLoss, rater_cross_entropy

BATCH, MEMBERS, CLASSES, RATERS = 2, 3, 4, 5


def inputs(shape: tuple[int, ...] = (4, 5), dtype: torch.dtype = torch.float64):
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(BATCH, MEMBERS, CLASSES, *shape, generator=generator, dtype=dtype).requires_grad_()
    target = torch.randint(0, CLASSES, (BATCH, RATERS, *shape), generator=generator)
    return logits, target


def plain(logits: torch.Tensor, target: torch.Tensor, ignore_index: int = -100) -> torch.Tensor:
    """PyTorch's cross entropy of each item, member and rater, ``[B, M, R]``."""
    return torch.stack(
        [
            torch.stack(
                [
                    torch.stack([F.cross_entropy(x[None], y[None], ignore_index=ignore_index) for y in raters])
                    for x in members
                ]
            )
            for members, raters in zip(logits, target, strict=True)
        ]
    )


@pytest.mark.parametrize("shape", [(4, 5), (2, 3, 4)])
@pytest.mark.parametrize("ignore_index", [None, 255])
def test_value_and_gradient_equal_the_plain_formula(shape, ignore_index):
    logits, target = inputs(shape)
    if ignore_index is not None:
        target[torch.rand(target.shape, generator=torch.Generator().manual_seed(0)) < 0.3] = ignore_index
    value = rater_cross_entropy(logits, target, None, ignore_index)
    expected = plain(logits, target, ignore_index or -100)
    assert value.shape == (BATCH, MEMBERS, RATERS)
    torch.testing.assert_close(value, expected)
    cotangent = torch.randn(value.shape, dtype=value.dtype)
    torch.testing.assert_close(*(torch.autograd.grad(v, logits, cotangent)[0] for v in (value, expected)))
    torch.testing.assert_close(RaterCrossEntropyLoss(ignore_index)(logits, target), expected.mean())


def test_a_hand_computed_case():
    """Two raters of two voxels; class 1 has odds of 3: log 4/3 where a rater sees it, log 4 where not."""
    logits = torch.tensor([0.0, math.log(3)]).reshape(1, 2, 1, 1).expand(1, 2, 1, 2)
    target = torch.tensor([[[[1, 1]], [[0, 1]]]])
    values = [math.log(4 / 3), (math.log(4) + math.log(4 / 3)) / 2]
    torch.testing.assert_close(rater_cross_entropy(logits[:, None], target), torch.tensor([[values]]))
    assert RaterCrossEntropyLoss()(logits, target).item() == pytest.approx(sum(values) / 2)
    weighted = RaterCrossEntropyLoss()(logits, target, torch.tensor([[1.0, 3.0]]))
    assert weighted.item() == pytest.approx((values[0] + 3 * values[1]) / 4)


def test_one_network_is_an_ensemble_of_one():
    logits, target = inputs()
    torch.testing.assert_close(
        RaterCrossEntropyLoss()(logits[:, 0], target), RaterCrossEntropyLoss()(logits[:, :1], target)
    )


def test_it_is_the_expectation_over_a_random_rater():
    logits, target = inputs()
    single = [RaterCrossEntropyLoss()(logits, target[:, i : i + 1]) for i in range(RATERS)]
    torch.testing.assert_close(RaterCrossEntropyLoss()(logits, target), torch.stack(single).mean())


def test_members_do_not_see_each_other():
    logits, target = inputs()
    (together,) = torch.autograd.grad(RaterCrossEntropyLoss()(logits, target), logits)
    (alone,) = torch.autograd.grad(RaterCrossEntropyLoss()(logits[:, 1], target), logits)
    torch.testing.assert_close(together[:, 1] * MEMBERS, alone[:, 1])


def test_a_missing_or_void_rater_changes_nothing():
    logits, target = inputs()
    target[:, -1] = 255
    weights = torch.tensor([[1.0] * 4 + [0.0]] * BATCH)
    value = RaterCrossEntropyLoss(255)(logits, target, weights)
    torch.testing.assert_close(value, RaterCrossEntropyLoss()(logits, target[:, :-1]))
    assert (rater_cross_entropy(logits, target, None, 255)[..., -1] == 0).all()


def test_reductions():
    logits, target = inputs()
    values = {r: RaterCrossEntropyLoss(reduction=r)(logits, target) for r in ("none", "sum", "mean")}
    assert values["none"].shape == (BATCH,)
    torch.testing.assert_close(values["none"].sum(), values["sum"])
    torch.testing.assert_close(values["none"].mean(), values["mean"])


def test_half_precision_is_computed_in_float32():
    logits, target = inputs(shape=(32, 32), dtype=torch.float32)
    half = logits.detach().bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = RaterCrossEntropyLoss()(half, target)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, RaterCrossEntropyLoss()(half.float(), target), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda x, y: (x[..., None], y),
            r"target must be \[B, raters, \*S\] of input .*, \(2, 3, 4, 4, 5, 1\)",
        ),
        (lambda x, y: (x, y[..., 1:]), r"for a hypothesis in input of shape \(2, 4, 4, 5\), got \(2, 5, 4, 4\)"),
        (lambda x, y: (x[0, 0, 0], y[0, 0]), r"target must be \[B, raters, \*S\] of input .*, \(4, 5\), got \(4, 5\)"),
        (lambda x, y: (x, y + 1), "label 4, outside the 4 classes"),
        (lambda x, y: (x, y - 1), "label -1, outside the 4 classes"),
        (lambda x, y: (x, y, torch.ones(2, 4)), r"rater_weights must be \[2, 5\], .* got the shape \(2, 4\)"),
        (lambda x, y: (x, y, -torch.ones(2, 5)), "non-negative, with a positive sum"),
        (lambda x, y: (x, y, torch.zeros(2, 5)), "non-negative, with a positive sum"),
        (lambda x, y: (x, y, torch.full((2, 5), torch.nan)), "non-negative, with a positive sum"),
    ],
)
def test_rejects_inputs(change, message):
    with pytest.raises(ValueError, match=message):
        RaterCrossEntropyLoss()(*change(*inputs()))


def test_a_non_finite_value_is_named():
    logits, target = inputs()
    broken = logits.detach().clone()
    broken[1, 0, 0, 2, 2] = torch.nan
    with pytest.raises(FloatingPointError, match="the cross entropy of batch item 1 and rater 0 is nan"):
        RaterCrossEntropyLoss()(broken, target)
