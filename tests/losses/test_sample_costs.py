# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from monai_stochseg.losses import class_sums as class_sums_module
from monai_stochseg.losses import cross_entropy_cost, iou_cost, rater_cross_entropy

BATCH, SAMPLES, RATERS, CLASSES = 2, 5, 3, 4
COSTS = [iou_cost, cross_entropy_cost]


def inputs(shape: tuple[int, ...] = (4, 5), void: float = 0.3, classes: int = CLASSES):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(BATCH, SAMPLES, classes, *shape, generator=generator, dtype=torch.float64).requires_grad_()
    labels = torch.randint(classes, (BATCH, RATERS, *shape), generator=generator)
    valid = torch.rand(labels.shape, generator=generator) >= void
    valid[0, 0] = False
    return logits, labels * valid, valid if void else torch.ones_like(valid)


def plain_iou(logits: torch.Tensor, labels: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    mask = valid.flatten(2)[:, None, :, None]
    p = logits.softmax(2).flatten(3)[:, :, None] * mask
    y = F.one_hot(labels.flatten(2), logits.shape[2]).transpose(2, 3)[:, None] * mask
    intersection = (p * y).sum(4)
    return 1 - ((intersection + 1) / ((p + y).sum(4) - intersection + 1))[..., 1:].mean(3)


def plain_cross_entropy(logits: torch.Tensor, labels: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    return rater_cross_entropy(logits, labels.masked_fill(~valid, 255), ignore_index=255)


PLAIN = {iou_cost: plain_iou, cross_entropy_cost: plain_cross_entropy}


def test_a_hand_computed_iou():
    """
    Two voxels; the sample has the class at 3/4 and 1/4, the raters on the first voxel, nowhere, and on both: (I + 1) /
    (U + 1) is 1.75 / 2.25, 1 / 2 and 2 / 3.
    """
    logits = torch.tensor([[0.0, 0.0], [math.log(3), -math.log(3)]]).reshape(1, 1, 2, 1, 2)
    labels = torch.tensor([[1, 0], [0, 0], [1, 1]]).reshape(1, 3, 1, 2)
    cost = iou_cost(logits, labels, torch.ones_like(labels, dtype=torch.bool))
    torch.testing.assert_close(cost, 1 - torch.tensor([[[1.75 / 2.25, 1 / 2, 2 / 3]]]))


@pytest.mark.parametrize("cost", COSTS)
@pytest.mark.parametrize("shape", [(4, 5), (2, 3, 4)])
@pytest.mark.parametrize("void", [0.0, 0.3])
@pytest.mark.parametrize("classes", [2, CLASSES])
@pytest.mark.parametrize("chunk", [2**20, 120])
def test_value_and_gradient_equal_the_plain_formula(cost, shape, void, classes, chunk, monkeypatch):
    monkeypatch.setattr(class_sums_module, "_CHUNK_ELEMENTS", chunk)
    arguments = inputs(shape, void, classes)
    value, expected = cost(*arguments), PLAIN[cost](*arguments)
    torch.testing.assert_close(value, expected)
    cotangent = torch.randn(value.shape, dtype=value.dtype)
    cotangent[0, 1:4] = cotangent[1, 2] = 0  # samples without mass, another number of each item
    torch.testing.assert_close(*(torch.autograd.grad(v, arguments[0], cotangent)[0] for v in (value, expected)))


@pytest.mark.parametrize("cost", COSTS)
def test_without_mass_there_is_no_gradient(cost):
    logits, labels, valid = inputs()
    (gradient,) = torch.autograd.grad((cost(logits, labels, valid) * 0).sum(), logits)
    assert (gradient == 0).all()


@pytest.mark.parametrize("cost", COSTS)
def test_a_rater_of_void_alone_costs_nothing(cost):
    logits, labels, valid = inputs()
    values = cost(logits, labels, valid)
    torch.testing.assert_close(values[0, :, 0], torch.zeros(SAMPLES, dtype=values.dtype))
    assert (values[1] > 0).all()


@pytest.mark.parametrize("cost", COSTS)
def test_half_precision_is_computed_in_float32(cost):
    logits, labels, valid = inputs()
    half = logits.detach().bfloat16().requires_grad_()
    full = half.detach().float().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = cost(half, labels, valid)
        (gradient,) = torch.autograd.grad(value.sum(), half)
    expected = cost(full, labels, valid)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, expected, rtol=0, atol=0)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected.sum(), full)[0].bfloat16(), rtol=0, atol=0)
