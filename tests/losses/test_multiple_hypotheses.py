# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import pytest
import torch

from monai_stochseg.losses import MultipleHypothesesLoss, RaterCrossEntropyLoss, rater_cross_entropy

BATCH, HEADS, CLASSES, RATERS = 2, 3, 4, 5


def inputs(shape: tuple[int, ...] = (3, 4)):
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(BATCH, HEADS, CLASSES, *shape, generator=generator, dtype=torch.float64).requires_grad_()
    target = torch.randint(0, CLASSES, (BATCH, RATERS, *shape), generator=generator)
    return logits, target


def plain(values: torch.Tensor, eps: float) -> torch.Tensor:
    """The definition, head by head, for cross entropies ``[B, M, R]``: ``[B, R]``."""
    weights = torch.full_like(values, eps / (values.shape[1] - 1))
    weights.scatter_(1, values.argmin(1, keepdim=True), 1 - eps)
    return (weights.detach() * values).sum(1)


def test_a_hand_computed_case():
    """
    One voxel; head 0 gives class 1 the odds of 3, head 1 odds of 1/3. The rater of class 1 has log 4/3 and log 4, the
    rater of class 0 the same the other way round: each is won by another head.
    """
    logits = torch.tensor([[0.0, math.log(3)], [0.0, -math.log(3)]]).reshape(1, 2, 2, 1, 1).requires_grad_()
    loss = MultipleHypothesesLoss(eps=0.1)
    best, other = math.log(4 / 3), math.log(4)
    target = torch.tensor([1, 0]).reshape(1, 2, 1, 1)
    value = loss(logits, target)
    assert value.item() == pytest.approx(0.9 * best + 0.1 * other)
    value = loss(logits, target[:, :1])
    assert value.item() == pytest.approx(0.9 * best + 0.1 * other)
    (gradient,) = torch.autograd.grad(value, logits)
    expected = torch.tensor([[0.9 * 0.25, -0.9 * 0.25], [0.1 * 0.75, -0.1 * 0.75]])  # weight * (softmax - one-hot)
    torch.testing.assert_close(gradient.reshape(2, 2), expected)


@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 4)])
@pytest.mark.parametrize("eps", [0.0, 0.05, 0.9])
def test_value_and_gradient_equal_the_plain_formula(shape, eps):
    logits, target = inputs(shape)
    weights = torch.rand(BATCH, RATERS, dtype=torch.float64)
    value = MultipleHypothesesLoss(eps)(logits, target, weights)
    per_rater = plain(rater_cross_entropy(logits, target), eps)
    expected = ((per_rater * weights).sum(1) / weights.sum(1)).mean()
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(*(torch.autograd.grad(v, logits)[0] for v in (value, expected)))


def test_equal_shares_are_the_mean_over_heads():
    logits, target = inputs()
    even = MultipleHypothesesLoss(eps=(HEADS - 1) / HEADS)
    torch.testing.assert_close(even(logits, target), RaterCrossEntropyLoss()(logits, target))


def test_of_equal_heads_one_wins():
    logits, target = inputs()
    same = logits[:, :1].detach().expand(-1, HEADS, -1, -1, -1).clone().requires_grad_()
    (gradient,) = torch.autograd.grad(MultipleHypothesesLoss(0.0)(same, target), same)
    assert (gradient.flatten(2).abs().sum((0, 2)) > 0).sum() == 1


def test_two_heads_learn_two_raters():
    torch.manual_seed(0)
    logits = (0.01 * torch.randn(1, 2, 2, 4, 4)).requires_grad_()
    target = torch.stack([torch.zeros(4, 4), torch.ones(4, 4)])[None]
    optimizer = torch.optim.Adam([logits], lr=0.1)
    for _ in range(60):
        optimizer.zero_grad()
        MultipleHypothesesLoss()(logits, target).backward()
        optimizer.step()
    labels = logits.argmax(2)[0].flatten(1).float().mean(1)
    assert sorted(labels.tolist()) == [0, 1]


def test_void_voxels_are_left_out_and_reductions():
    logits, target = inputs()
    target[..., 0] = 255
    values = {r: MultipleHypothesesLoss(0.05, 255, r)(logits, target) for r in ("none", "sum", "mean")}
    known = MultipleHypothesesLoss(reduction="none")(logits[..., 1:], target[..., 1:])
    torch.testing.assert_close(values["none"], known)
    torch.testing.assert_close(values["none"].sum(), values["sum"])
    torch.testing.assert_close(values["none"].mean(), values["mean"])


@pytest.mark.parametrize("eps", [-0.1, 1.0])
def test_rejects_eps(eps):
    with pytest.raises(ValueError, match=rf"eps must lie in \[0, 1\), got {eps}"):
        MultipleHypothesesLoss(eps)


def test_rejects_a_single_head():
    logits, target = inputs()
    with pytest.raises(ValueError, match="at least 2 heads, got 1: train one by RaterCrossEntropyLoss"):
        MultipleHypothesesLoss()(logits[:, :1], target)
    with pytest.raises(ValueError, match=r"input must be logits \[B, M, C, \*S\]"):
        MultipleHypothesesLoss()(logits[:, 0], target)
