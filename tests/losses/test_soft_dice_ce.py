# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import pytest
import torch
from monai.data import MetaTensor
from monai.losses import DiceCELoss, DiceLoss
from torch.nn import functional as F

from monai_stochseg.losses.soft_dice_ce import SoftDiceCELoss
from monai_stochseg.transforms.svls import SVLS

CLASSES = 3


def soft_target(shape: tuple[int, ...]) -> torch.Tensor:
    """Of two images: SVLS of a label, and any probabilities."""
    label = torch.zeros(1, *shape, dtype=torch.long)
    label[:, 1:4, 2:5], label[:, 2, 3] = 1, 2
    return torch.stack([SVLS(CLASSES)(label).as_tensor(), torch.rand(CLASSES, *shape).softmax(0)])


LOSSES = {
    "cross entropy": torch.nn.CrossEntropyLoss(),
    "dice": SoftDiceCELoss(lambda_ce=0.0),
    "both": SoftDiceCELoss(),
    "weights": SoftDiceCELoss(dice_weight=[0.5, 1.0, 2.0], lambda_dice=0.5, lambda_ce=2.0),
    "foreground": SoftDiceCELoss(include_background=False, dice_weight=[1.0, 2.0]),
    "squared, jaccard": SoftDiceCELoss(squared_pred=True, jaccard=True),
    "batch, sum": SoftDiceCELoss(batch=True, reduction="sum"),
}


@pytest.mark.parametrize("shape", [(6, 7), (5, 6, 4)])
@pytest.mark.parametrize("name", LOSSES)
def test_smallest_where_the_prediction_is_the_target(shape, name):
    loss = LOSSES[name]
    target = soft_target(shape).double()
    best = target.clamp(min=1e-12).log()
    least = loss(best, target)
    for step in (1e-3, 1e-2, 0.1, 1.0):
        for direction in torch.randn(5, *best.shape, dtype=best.dtype):
            assert loss(best + step * direction, target) > least
    logits = torch.zeros_like(best).requires_grad_()
    optimizer = torch.optim.Adam([logits], lr=0.1)
    for _ in range(50):
        optimizer.zero_grad()
        value = loss(logits, target)
        value.backward()
        optimizer.step()
        assert value > least


def test_the_hard_dice_loss_is_not():
    """What `soft_label` is for: without it a sharper prediction than the target pays."""
    target = soft_target((6, 7))
    loss = DiceLoss(softmax=True)
    logits = target.clamp(min=1e-12).log()
    assert loss(3 * logits, target) < loss(logits, target)


def test_hand_computed():
    """One voxel, the prediction even: the Dice loss of class c is |p - q| / (p + q)."""
    target = torch.tensor([0.75, 0.25]).reshape(1, 2, 1, 1)
    dice = (0.25 / 1.25 + 0.25 / 0.75) / 2
    value = SoftDiceCELoss(smooth_nr=0, smooth_dr=0, lambda_dice=2.0)(torch.zeros_like(target), target)
    assert value.item() == pytest.approx(2 * dice + math.log(2))


@pytest.mark.parametrize("shape", [(6, 7), (5, 6, 4)])
def test_value_and_gradient_equal_the_plain_formula(shape):
    """The soft Dice loss is that of the overlap (|p| + |q| - |p - q|) / 2 (Wang et al. 2023)."""
    target = soft_target(shape).double()
    logits = torch.randn(target.shape, dtype=torch.float64, requires_grad=True)
    value = SoftDiceCELoss(lambda_dice=0.5, lambda_ce=2.0, dice_weight=[0.5, 1.0, 2.0])(logits, target)
    p, q = logits.softmax(1).flatten(2), target.flatten(2)
    sums = p.sum(2) + q.sum(2)
    dice = 1 - (sums - (p - q).abs().sum(2) + 1e-5) / (sums + 1e-5)
    cross_entropy = -(target * logits.log_softmax(1)).sum(1).mean()
    plain = 0.5 * (dice * torch.tensor([0.5, 1.0, 2.0])).mean() + 2 * cross_entropy
    torch.testing.assert_close(value, plain)
    torch.testing.assert_close(*(torch.autograd.grad(v, logits)[0] for v in (value, plain)))


@pytest.mark.parametrize("options", [{}, {"include_background": False, "batch": True}, {"reduction": "sum"}])
def test_equals_monai_for_one_hot_targets(options):
    label = torch.randint(CLASSES, (2, 1, 5, 6))
    one_hot = F.one_hot(label[:, 0], CLASSES).movedim(-1, 1).float()
    logits = torch.randn(2, CLASSES, 5, 6)
    expected = DiceCELoss(softmax=True, to_onehot_y=True, **options)(logits, label)
    torch.testing.assert_close(SoftDiceCELoss(**options)(logits, one_hot), expected)


def test_a_weighted_cross_entropy_is_smallest_elsewhere():
    """Why `dice_weight` leaves the cross entropy alone."""
    target, weight = soft_target((6, 7)), torch.tensor([1.0, 2.0, 3.0])
    loss = torch.nn.CrossEntropyLoss(weight=weight)
    logits = target.clamp(min=1e-12).log()
    assert loss(logits + weight.log()[:, None, None], target) < loss(logits, target)


def test_meta_tensors_and_half_precision():
    target = soft_target((6, 7))
    logits = torch.randn(target.shape)
    value = SoftDiceCELoss()(logits, target)
    assert torch.equal(SoftDiceCELoss()(logits, MetaTensor(target)), value)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = SoftDiceCELoss()(logits.bfloat16(), target.bfloat16())
    assert half.dtype == torch.float32
    assert half.item() == pytest.approx(value.item(), rel=2e-2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda y: y.argmax(1, keepdim=True), r"of the shape of input, \(2, 3, 6, 7\), .* got \(2, 1, 6, 7\): make an"),
        (lambda y: y.argmax(1), r"got \(2, 6, 7\)"),
        (lambda y: y[..., 1:], r"got \(2, 3, 6, 6\)"),
        (lambda y: y.argmax(1, keepdim=True).expand(-1, 3, -1, -1), "must hold probabilities that sum to 1 over C"),
        (lambda y: y * 0.9, "sums from 0.9 to 0.9: resampling moves them"),
        (lambda y: 2 * y - 1 / 3, "got values from -0.333"),
        (lambda y: y * torch.nan, "sums from nan to nan"),
    ],
)
def test_refuses_targets(change, message):
    target = soft_target((6, 7))
    with pytest.raises(ValueError, match=message):
        SoftDiceCELoss()(torch.zeros_like(target), change(target))


def test_refuses_one_channel():
    with pytest.raises(ValueError, match="with C of at least 2"):
        SoftDiceCELoss()(torch.zeros(1, 1, 4, 4), torch.ones(1, 1, 4, 4))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lambda_dice": -1.0}, "lambda_dice must not be negative, got -1.0"),
        ({"lambda_ce": -1.0}, "lambda_ce must not be negative, got -1.0"),
        ({"reduction": "none"}, "reduction must be 'mean' or 'sum', got 'none'"),
        ({"reduction": "median"}, "median"),
    ],
)
def test_refuses_options(options, message):
    with pytest.raises(ValueError, match=message):
        SoftDiceCELoss(**options)
