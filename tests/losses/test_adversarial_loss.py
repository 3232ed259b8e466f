# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from monai.losses import PatchAdversarialLoss
from torch import nn
from torch.nn import functional as F

from monai_stochseg.losses import DiscriminatorLoss, LogitAdversarialLoss, r1_penalty


class Linear(nn.Module):
    """Weights of image and label map, ``v x + w y``: the gradient is the weights."""

    def __init__(self) -> None:
        super().__init__()
        self.v = nn.Parameter(torch.randn(2, 4, 4))
        self.w = nn.Parameter(torch.randn(3, 4, 4))

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return ((x * self.v).flatten(1).sum(1) + (y * self.w).flatten(1).sum(1))[:, None]


class Quadratic(Linear):
    """``(v x + w y)^2 / 2``, whose gradient is its root times the weights."""

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return super().forward(x, y).square() / 2


def batch(items: int = 3) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Images, label maps and samples."""
    label = F.one_hot(torch.randint(3, (items, 4, 4)), 3).movedim(-1, 1).float()
    return torch.randn(items, 2, 4, 4), label, torch.randn(items, 3, 4, 4).softmax(1)


@pytest.mark.parametrize(
    ("real", "for_discriminator", "expected"),
    [
        (True, False, lambda d: F.softplus(-d)),  # the generator's, non-saturating
        (True, True, lambda d: F.softplus(-d)),
        (False, True, F.softplus),
    ],
)
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_values_and_gradients_on_logits(real, for_discriminator, expected, reduction):
    logits = torch.tensor([[-300.0], [-2.0], [0.0], [1.0], [300.0]], requires_grad=True)
    value = LogitAdversarialLoss(reduction)(logits, real, for_discriminator)
    plain = getattr(expected(logits), reduction)()
    torch.testing.assert_close(value, plain)
    torch.testing.assert_close(*(torch.autograd.grad(v, logits)[0] for v in (value, plain)))


def test_a_sure_discriminator_leaves_a_gradient():
    """What the logits are for: where the discriminator is sure that it sees a sample, MONAI's own loss has none."""
    logits = torch.full((1, 1), -300.0, requires_grad=True)
    gradients = [
        torch.autograd.grad(loss(logits, True, for_discriminator=False), logits)[0].item()
        for loss in (PatchAdversarialLoss(criterion="bce"), LogitAdversarialLoss())
    ]
    assert gradients == [0, -1]


def test_where_it_is_not_sure_it_is_monais_loss():
    logits = torch.randn(5, 1)
    for real in (True, False):
        one, two = (
            loss(logits, real, True) for loss in (PatchAdversarialLoss(criterion="bce"), LogitAdversarialLoss())
        )
        torch.testing.assert_close(one, two)


def test_half_precision_logits_are_computed_in_float32():
    logits = torch.randn(64, 1).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = LogitAdversarialLoss()(logits, True, for_discriminator=True)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, F.softplus(-logits.float()).mean())


def test_r1_of_a_linear_discriminator_is_its_squared_norm():
    critic = Linear()
    x, y, _ = batch()
    logits, penalty = r1_penalty(critic, x, y)
    torch.testing.assert_close(logits, critic(x, y))
    torch.testing.assert_close(penalty, (critic.v.square().sum() + critic.w.square().sum()).expand(3))
    gradients = torch.autograd.grad(penalty.mean(), [critic.v, critic.w])
    torch.testing.assert_close(gradients, (2 * critic.v, 2 * critic.w))
    _, of_labels = r1_penalty(lambda label: critic(x, label), y)
    torch.testing.assert_close(of_labels, critic.w.square().sum().expand(3))


def test_r1_is_per_item():
    critic = Quadratic()
    x, y, _ = batch()
    _, penalty = r1_penalty(critic, x, y)
    norm = critic.v.square().sum() + critic.w.square().sum()
    torch.testing.assert_close(penalty, Linear.forward(critic, x, y)[:, 0].square() * norm)
    for i in range(3):
        torch.testing.assert_close(r1_penalty(critic, x[i : i + 1], y[i : i + 1])[1], penalty[i : i + 1])


def test_r1_is_float32_under_autocast_and_needs_no_grad_mode():
    critic = nn.Sequential(nn.Conv2d(3, 8, 3), nn.LeakyReLU(), nn.Flatten(), nn.Linear(32, 1))
    y = batch()[1]
    expected = r1_penalty(critic, y)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        found = r1_penalty(critic, y.bfloat16())
    for one, two in zip(found, expected, strict=True):
        assert one.dtype == torch.float32
        torch.testing.assert_close(one, two, rtol=0, atol=0)


@pytest.mark.parametrize("r1_weight", [0.0, 10.0])
def test_the_discriminators_loss_is_the_plain_formula(r1_weight):
    critic = Quadratic()
    x, real, fake = batch()
    fake.requires_grad_()
    terms = DiscriminatorLoss(r1_weight)(critic, x, real, fake)
    of_real, of_fake = critic(x, real), critic(x, fake.detach())
    norm = critic.v.square().sum() + critic.w.square().sum()
    penalty = Linear.forward(critic, x, real)[:, 0].square() * norm
    plain = F.softplus(-of_real).mean() + F.softplus(of_fake).mean() + r1_weight * penalty.mean()
    torch.testing.assert_close(terms.loss, plain)
    weights = list(critic.parameters())
    torch.testing.assert_close(*(torch.autograd.grad(v, weights, retain_graph=True) for v in (terms.loss, plain)))
    terms.loss.backward()
    assert fake.grad is None  # the generator learns nothing in the discriminator's step
    torch.testing.assert_close((terms.real, terms.fake), (of_real.detach(), of_fake.detach()))
    torch.testing.assert_close(terms.penalty, penalty.detach() if r1_weight else torch.zeros(3))
    assert not any(term.requires_grad for term in terms[1:])


def test_rejects_a_negative_weight():
    with pytest.raises(ValueError, match="r1_weight must not be negative, got -1"):
        DiscriminatorLoss(-1)
