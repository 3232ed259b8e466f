# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
import warnings

import pytest
import torch
from monai.data import MetaTensor
from torch.distributions import Categorical, kl_divergence

from monai_stochseg.losses import CalibrationLoss

EPS, CLASSES = 1e-3, 3
DIVERGENCES = ("kl", "reverse_kl", "js", "gaussian")


def inputs(shape: tuple[int, ...] = (4, 5), samples: int = 3, dtype=torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of the samples and of the target."""
    logits = torch.randn(2, samples, CLASSES, *shape, dtype=dtype, requires_grad=True)
    return logits, torch.randn(2, CLASSES, *shape, dtype=dtype)


def plain(divergence: str, p: torch.Tensor, q: torch.Tensor, eps: float = EPS) -> torch.Tensor:
    """Of every voxel ``[B, *S]``, by PyTorch's distributions."""
    if divergence == "gaussian":
        return ((p - q) ** 2).sum(1)
    p, q = ((x * (1 - CLASSES * eps) + eps).movedim(1, -1) for x in (p, q))
    m = Categorical(probs=(p + q) / 2)
    p, q = Categorical(probs=p), Categorical(probs=q)
    if divergence == "js":
        return (kl_divergence(p, m) + kl_divergence(q, m)) / 2
    return kl_divergence(p, q) if divergence == "kl" else kl_divergence(q, p)


@pytest.mark.parametrize("shape", [(4, 5), (2, 3, 4)])
@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_value_and_gradient_equal_the_plain_formula(shape, divergence):
    logits, target = inputs(shape)
    target = target.softmax(1)
    value = CalibrationLoss(divergence, reduction="none")(logits.softmax(2), target)
    expected = plain(divergence, logits.softmax(2).mean(1), target).flatten(1).mean(1)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(*(torch.autograd.grad(v.sum(), logits)[0] for v in (value, expected)))


@pytest.mark.parametrize(
    ("divergence", "expected"),
    [
        ("kl", math.log(2) / 2 + math.log(2 / 3) / 2),
        ("reverse_kl", math.log(1 / 2) / 4 + math.log(3 / 2) * 3 / 4),
        ("js", (math.log(4 / 3) + math.log(4 / 5)) / 4 + (math.log(2 / 3) + 3 * math.log(6 / 5)) / 8),
        ("gaussian", 2 / 16),
    ],
)
def test_hand_computed(divergence, expected):
    """Two samples of one voxel, each sure of another class: their mean is even, the target one to three."""
    samples = torch.eye(2).reshape(1, 2, 2, 1, 1)
    target = torch.tensor([0.25, 0.75]).reshape(1, 2, 1, 1)
    assert CalibrationLoss(divergence, eps=1e-9)(samples, target).item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_zero_where_the_mean_is_the_target_and_nowhere_else(divergence):
    """Coherent samples in proportion cost nothing: that is what the loss leaves to the adversarial one."""
    samples = torch.eye(2)[torch.tensor([0, 0, 0, 1])].reshape(1, 4, 2, 1, 1).expand(-1, -1, -1, 3, 3)
    target = torch.tensor([0.75, 0.25]).reshape(1, 2, 1, 1).expand(-1, -1, 3, 3)
    loss = CalibrationLoss(divergence)
    assert loss(samples, target).item() == pytest.approx(0, abs=1e-6)
    for other in (samples[:, 1:], samples[:, :3]):
        assert loss(other, target) > 1e-3


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_a_class_that_no_sample_has_takes_a_gradient(divergence):
    samples = torch.tensor([1.0, 0.0]).reshape(1, 1, 2, 1, 1).repeat(1, 2, 1, 1, 1).requires_grad_()
    target = torch.full((1, 2, 1, 1), 0.5)
    (gradient,) = torch.autograd.grad(CalibrationLoss(divergence)(samples, target), samples)
    assert (gradient[:, :, 1] - gradient[:, :, 0] < -0.1).all()


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_void_voxels_are_left_out(divergence):
    logits, target = inputs()
    target = target.softmax(1)
    mask = torch.ones(2, 1, 4, 5)
    mask[0, :, 1] = 0
    mask[1, :, :, 2:] = 0
    loss = CalibrationLoss(divergence, reduction="none")
    value = loss(logits.softmax(2), target, mask)
    voxels = plain(divergence, logits.softmax(2).mean(1), target)
    expected = torch.stack([voxels[0, [0, 2, 3]].mean(), voxels[1, :, :2].mean()])
    torch.testing.assert_close(value, expected)
    gradient = torch.autograd.grad(value.sum(), logits)[0]
    assert torch.equal(gradient.abs().sum((1, 2)) > 0, mask[:, 0] > 0)
    torch.testing.assert_close(loss(logits.softmax(2), target, mask.bool()), value)
    assert (loss(logits.softmax(2), target, torch.zeros_like(mask)) == 0).all()


def test_gaussian_takes_values_without_space():
    samples, target = torch.tensor([[[1.0], [3.0]]]), torch.tensor([[5.0]])
    assert CalibrationLoss("gaussian")(samples, target).item() == pytest.approx(9)


def test_reductions_and_the_targets_gradient():
    logits, target = inputs()
    target.requires_grad_()
    values = {r: CalibrationLoss(reduction=r)(logits.softmax(2), target.softmax(1)) for r in ("none", "sum", "mean")}
    assert values["none"].shape == (2,)
    torch.testing.assert_close(values["none"].sum(), values["sum"])
    torch.testing.assert_close(values["none"].mean(), values["mean"])
    values["mean"].backward()
    assert target.grad is None


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_half_precision_is_computed_in_float32(divergence):
    logits, target = inputs((16, 16), dtype=torch.float32)
    samples, target = logits.softmax(2).bfloat16(), target.softmax(1).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = CalibrationLoss(divergence)(samples, MetaTensor(target))
    assert value.dtype == torch.float32
    expected = CalibrationLoss(divergence)(samples.float(), target.float())
    torch.testing.assert_close(value, expected, rtol=0, atol=0)


def test_one_sample_is_warned_of():
    logits, target = inputs(samples=1)
    with pytest.warns(UserWarning, match="sees 1 sample of each image: .* teaches the network to collapse"):
        CalibrationLoss()(logits.softmax(2), target.softmax(1))
    logits, target = inputs(samples=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        CalibrationLoss()(logits.softmax(2), target.softmax(1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p, q: (p, q[:, 0]), r"input must be \[B, N, C, \*S\] and target \[B, C, \*S\]"),
        (lambda p, q: (p, q[:, :2]), r"got \(2, 3, 3, 4, 5\) and \(2, 2, 4, 5\)"),
        (lambda p, q: (p, q[:1]), r"got \(2, 3, 3, 4, 5\) and \(1, 3, 4, 5\)"),
        (lambda p, q: (p.log(), q), "input must hold probabilities .*: give the softmax of logits"),
        (lambda p, q: (p, 2 * q), "target must hold probabilities that sum to 1 over C, .* sums from 2 to 2"),
        (lambda p, q: (p * torch.nan, q), "sums from nan to nan"),
        (lambda p, q: (p, q, q), r"mask must be \[B, 1, \*S\] = \(2, 1, 4, 5\), got \(2, 3, 4, 5\)"),
    ],
)
def test_rejects_inputs(change, message):
    logits, target = inputs()
    with pytest.raises(ValueError, match=message):
        CalibrationLoss()(*change(logits.softmax(2), target.softmax(1)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"divergence": "l2"}, "divergence must be one of .* got 'l2'"),
        ({"eps": 0.0}, "eps must be positive, got 0.0"),
        ({"reduction": "median"}, "median"),
    ],
)
def test_rejects_options(options, message):
    with pytest.raises(ValueError, match=message):
        CalibrationLoss(**options)


def test_rejects_an_eps_that_leaves_nothing():
    logits, target = inputs()
    with pytest.raises(ValueError, match=r"eps must be below 1 / C, 0\.333333 for 3 classes, got 0\.4"):
        CalibrationLoss(eps=0.4)(logits.softmax(2), target.softmax(1))
