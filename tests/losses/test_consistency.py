# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence
from torch.nn import functional as F

from monai_stochseg.distributions import RefinementOutput
from monai_stochseg.losses import ConsistencyLoss


@pytest.mark.parametrize(
    ("kind", "beta", "expected"),
    [
        ("cross_entropy", 0.5, math.log(2)),  # of even logits
        ("latent", 0.5, 0.5 * 2.0),  # half of 1 and half of 3, the squared means, at deviation 1
        ("cvae_gan", 0.1, math.log(2) + 0.1 * 2.0),
        ("cvae_gan", 10.0, math.log(2) + 10 * 2.0),
    ],
)
def test_by_hand(kind, beta, expected):
    mean = torch.tensor([[1.0, math.sqrt(3)]])
    output = RefinementOutput(torch.zeros(1, 2, 2, 1, 1), torch.full((1, 2, 1, 1), 0.5), mean, torch.zeros(1, 2))
    loss = ConsistencyLoss(kind, beta=beta)(output, torch.tensor([[[[0]], [[1]]]]))
    torch.testing.assert_close(loss, torch.tensor(expected))


@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 2)])
@pytest.mark.parametrize("kind", ["calibration", "cross_entropy", "latent", "cvae_gan"])
def test_value_and_gradient_equal_the_plain_formula(shape, kind):
    generator = torch.Generator().manual_seed(0)

    def normal(*size: int) -> torch.Tensor:
        return torch.randn(size, generator=generator, dtype=torch.float64).requires_grad_()

    logits, mean, log_std = normal(2, 4, 3, *shape), normal(2, 5), normal(2, 5)
    calibration = normal(2, 3, *shape).detach().softmax(1)
    target = torch.randint(3, (2, 2, *shape), generator=generator)
    weights = torch.tensor([[1.0, 3.0], [1.0, 0.0]], dtype=torch.float64)
    value = ConsistencyLoss(kind, beta=0.7)(RefinementOutput(logits, calibration, mean, log_std), target, weights)
    if kind == "calibration":
        p, q = ((1 - 3e-3) * x + 1e-3 for x in (logits.softmax(2).mean(1), calibration))
        plain = F.kl_div(q.log(), p, reduction="none").sum(1).mean()
    else:
        pairs = [
            [F.cross_entropy(sample, label, reduction="none").flatten(1).sum(1) for sample in logits.unbind(1)]
            for label in target.unbind(1)
        ]
        of_raters = torch.stack([torch.stack(samples).mean(0) for samples in pairs], dim=1)
        of_raters = of_raters / math.prod(shape)
        cross_entropy = (of_raters * weights / weights.sum(1, keepdim=True)).sum(1).mean()
        divergence = kl_divergence(Normal(mean, log_std.exp()), Normal(0.0, 1.0)).sum(1).mean()
        plain = {
            "cross_entropy": cross_entropy, "latent": 0.7 * divergence, "cvae_gan": cross_entropy + 0.7 * divergence
        }[kind]  # fmt: skip
    torch.testing.assert_close(value, plain)
    of_code = {"calibration": [], "cross_entropy": []}.get(kind, [mean, log_std])
    inputs = [*([] if kind == "latent" else [logits]), *of_code]
    for one, two in zip(*(torch.autograd.grad(v, inputs) for v in (value, plain)), strict=True):
        torch.testing.assert_close(one, two)


def test_calibration_by_hand_leaves_void_out() -> None:
    """
    Two samples of even logits in both voxels: their mean against 3/4 and 1/4 is KL = log 2 - log(3) / 2. The second
    voxel, at which they agree, is void to a rater and is left out, unless this rater is missing.
    """
    calibration = torch.tensor([[[[0.75, 0.5]], [[0.25, 0.5]]]])
    output = RefinementOutput(torch.zeros(1, 2, 2, 1, 2), calibration, torch.zeros(1, 1), torch.zeros(1, 1))
    target, divergence = torch.tensor([[[[0, 0]], [[1, 255]]]]), math.log(2) - math.log(3) / 2
    for weights, expected in (([1.0, 1.0], divergence), ([1.0, 0.0], divergence / 2)):
        loss = ConsistencyLoss(ignore_index=255)(output, target, torch.tensor([weights]))
        torch.testing.assert_close(loss, torch.tensor(expected), rtol=0, atol=5e-3)  # the loss mixes eps of 1e-3 in
