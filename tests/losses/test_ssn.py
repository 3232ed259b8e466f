# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Bernoulli, Normal
from torch.nn import functional as F

from monai_stochseg.distributions import draw_noise, draw_seeds, split_parameters
from monai_stochseg.losses import SSNLoss, sample_log_likelihood
from monai_stochseg.losses.sample_log_likelihood import Sampling

CLASSES, RANK = 3, 2


def inputs(batch: int = 2, raters: int = 1, shape: tuple[int, ...] = (4, 5), dtype: torch.dtype = torch.float64):
    generator = torch.Generator().manual_seed(2)
    parameters = torch.randn(batch, CLASSES * (2 + RANK), *shape, generator=generator, dtype=dtype)
    target = torch.randint(0, CLASSES, (batch, raters, *shape), generator=generator)
    return (0.5 * parameters).requires_grad_(), target


def plain_samples(loss: SSNLoss, parameters: torch.Tensor, generator: torch.Generator) -> list[torch.Tensor]:
    """The samples of a loss by the plain formula, from the same noise."""
    mean, log_diag, factor = split_parameters(parameters, CLASSES, RANK)
    samples = []
    sampling = Sampling(CLASSES, RANK, loss.num_samples, loss.antithetic)
    parts = sampling.parts(parameters.numel())
    for part, seed in zip(parts, draw_seeds(len(parts), generator), strict=True):
        number = math.ceil((part.stop - part.start) / (1 + loss.antithetic))
        e1, e2 = draw_noise(seed, number, RANK, mean.flatten(2))
        for a, b in zip(e1, e2, strict=True):
            deviation = torch.einsum("br,brc...->bc...", a, factor) + (0.5 * log_diag).exp() * b.reshape(mean.shape)
            samples += [mean + deviation, mean - deviation] if loss.antithetic else [mean + deviation]
    return samples[: loss.num_samples]


def plain_loss(samples: list[torch.Tensor], target: torch.Tensor, valid: torch.Tensor | None = None) -> torch.Tensor:
    """Per item and rater, ``[B, raters]``, by PyTorch's cross entropy and autograd."""
    valid = torch.ones_like(target) if valid is None else valid
    log_p = []
    for sample in samples:
        raters = [F.cross_entropy(sample, y, reduction="none") for y in target.unbind(1)]
        log_p.append(-(torch.stack(raters, dim=1) * valid).flatten(2).sum(2))
    return math.log(len(samples)) - torch.logsumexp(torch.stack(log_p), dim=0)


@pytest.mark.parametrize("chunk_elements", [1, 2**20])
@pytest.mark.parametrize("shape", [(4, 5), (2, 3, 4)])
@pytest.mark.parametrize(("num_samples", "antithetic"), [(1, True), (4, True), (5, True), (3, False)])
def test_value_and_gradient_equal_the_plain_formula(monkeypatch, num_samples, antithetic, shape, chunk_elements):
    monkeypatch.setattr(sample_log_likelihood, "_CHUNK_ELEMENTS", chunk_elements)
    loss = SSNLoss(CLASSES, RANK, num_samples, antithetic, raters="mean")
    parameters, target = inputs(raters=2, shape=shape)
    value = loss(parameters, target, generator=torch.Generator().manual_seed(5))
    plain = plain_loss(plain_samples(loss, parameters, torch.Generator().manual_seed(5)), target).mean()
    torch.testing.assert_close(value, plain)
    torch.testing.assert_close(*(torch.autograd.grad(v, parameters)[0] for v in (value, plain)))


def test_samples_that_float32_cannot_see_are_left_out_of_the_gradient(monkeypatch):
    parameters, target = inputs(batch=1, shape=(40, 40))
    scaled = (parameters * 3).detach().requires_grad_()
    loss = SSNLoss(CLASSES, RANK, 20)
    monkeypatch.setattr(sample_log_likelihood, "_CHUNK_ELEMENTS", 1)
    plain = plain_loss(plain_samples(loss, scaled, torch.Generator().manual_seed(5)), target).mean()
    (expected,) = torch.autograd.grad(plain, scaled)
    value = loss(scaled, target, generator=torch.Generator().manual_seed(5))
    drawn = []
    original = draw_noise
    monkeypatch.setattr(
        sample_log_likelihood, "draw_noise", lambda seed, *args: drawn.append(seed) or original(seed, *args)
    )
    (grad,) = torch.autograd.grad(value, scaled)
    assert len(drawn) < 10
    torch.testing.assert_close(grad, expected, atol=1e-6, rtol=1e-6)


def test_a_hand_computed_case():
    """Without variance the loss is the cross entropy summed over voxels: two voxels of two equal classes, 2 log 2."""
    parameters = torch.zeros(1, 2 * 3, 1, 2)
    parameters[:, 2:4] = -50
    value = SSNLoss(2, 1, 4)(parameters, torch.tensor([[[[0, 1]]]]))
    assert value.item() == pytest.approx(2 * math.log(2), abs=1e-5)


def test_it_estimates_the_likelihood_of_a_logistic_normal():
    """One voxel, two classes: E[sigmoid(x)] over x = eta_1 - eta_0, by quadrature."""
    mean, log_diag, factor = torch.tensor([0.3, -0.4]), torch.tensor([-1.0, 0.2]), torch.tensor([0.7, -0.9])
    parameters = torch.cat([mean, log_diag, factor]).reshape(1, 6, 1, 1)
    value = SSNLoss(2, 1, 20000, antithetic=False)(parameters, torch.ones(1, 1, 1, 1))
    x = torch.linspace(-20, 20, 40001, dtype=torch.float64)
    spread = ((factor[1] - factor[0]) ** 2 + log_diag.exp().sum()).sqrt()
    density = Normal(mean[1] - mean[0], spread).log_prob(x).exp()
    expected = torch.trapezoid(density * Bernoulli(logits=x).probs, x)
    assert math.exp(-value.item()) == pytest.approx(expected.item(), rel=0.02)


def test_antithetic_sampling_lowers_the_variance():
    parameters, target = inputs(batch=1, shape=(2, 2))
    spread = {
        antithetic: torch.stack([SSNLoss(CLASSES, RANK, 4, antithetic)(parameters, target) for _ in range(300)])
        .std()
        .item()
        for antithetic in (False, True)
    }
    assert spread[True] < spread[False]


@pytest.mark.parametrize("where", ["ignore_index", "mask"])
def test_void_voxels_and_voxels_outside_the_mask_leave_the_sum(where):
    parameters, target = inputs(raters=2)
    valid = torch.rand(target[:, :1].shape, generator=torch.Generator().manual_seed(0)) > 0.4
    generators = [torch.Generator().manual_seed(5) for _ in range(2)]
    if where == "mask":
        loss = SSNLoss(CLASSES, RANK, 4, raters="mean")
        value = loss(parameters, target, mask=valid, generator=generators[0])
    else:
        loss = SSNLoss(CLASSES, RANK, 4, raters="mean", ignore_index=255)
        value = loss(parameters, target.masked_fill(~valid, 255), generator=generators[0])
    plain = plain_loss(plain_samples(loss, parameters, generators[1]), target, valid.expand_as(target)).mean()
    torch.testing.assert_close(value, plain)
    torch.testing.assert_close(*(torch.autograd.grad(v, parameters)[0] for v in (value, plain)))


def test_random_raters_are_drawn_by_weight():
    parameters, target = inputs(raters=3)
    weights = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 2.0]])
    value = SSNLoss(CLASSES, RANK, 4)(
        parameters, target, rater_weights=weights, generator=torch.Generator().manual_seed(5)
    )
    chosen = torch.stack([target[0, 1:2], target[1, 2:3]])
    generator = torch.Generator().manual_seed(5)
    torch.multinomial(weights, 1, generator=generator)  # the draw of the raters precedes the noise
    torch.testing.assert_close(value, SSNLoss(CLASSES, RANK, 4)(parameters, chosen, generator=generator))
    seen = {SSNLoss(CLASSES, RANK, 1, mean_only=True)(parameters, target).item() for _ in range(60)}
    assert len(seen) == 9  # 3 raters of 2 items


def test_mean_over_raters_uses_their_weights():
    parameters, target = inputs(raters=2)
    loss = SSNLoss(CLASSES, RANK, mean_only=True, raters="mean", reduction="none")
    one, two = (SSNLoss(CLASSES, RANK, mean_only=True, reduction="none")(parameters, y) for y in target.split(1, dim=1))
    weights = torch.tensor([[1.0, 3.0], [1.0, 0.0]])
    expected = torch.stack([0.25 * one[0] + 0.75 * two[0], one[1]])
    torch.testing.assert_close(loss(parameters, target, rater_weights=weights), expected)


def test_mean_only_is_the_summed_cross_entropy_and_spares_the_covariance():
    parameters, target = inputs()
    value = SSNLoss(CLASSES, RANK, mean_only=True)(parameters, target)
    plain = F.cross_entropy(parameters[:, :CLASSES], target[:, 0], reduction="sum") / len(parameters)
    torch.testing.assert_close(value, plain)
    (grad,) = torch.autograd.grad(value, parameters)
    assert (grad[:, CLASSES:] == 0).all()
    torch.testing.assert_close(grad, torch.autograd.grad(plain, parameters)[0])


def test_reductions_and_dtype():
    parameters, target = inputs(batch=3)
    values = {
        reduction: SSNLoss(CLASSES, RANK, 4, reduction=reduction)(
            parameters, target, generator=torch.Generator().manual_seed(1)
        )
        for reduction in ("none", "sum", "mean")
    }
    torch.testing.assert_close(values["none"].sum(), values["sum"])
    torch.testing.assert_close(values["none"].mean(), values["mean"])
    assert SSNLoss(CLASSES, RANK)(*inputs(dtype=torch.float16)).dtype == torch.float32


def test_likelihoods_are_summed_in_float32_under_autocast():
    parameters, target = inputs(dtype=torch.float32, shape=(64, 64))
    generators = [torch.Generator().manual_seed(5) for _ in range(2)]
    full = SSNLoss(CLASSES, RANK)(parameters, target, generator=generators[0])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = SSNLoss(CLASSES, RANK)(parameters, target, generator=generators[1])
    assert mixed.dtype == torch.float32
    torch.testing.assert_close(full, mixed, rtol=0, atol=0)
    half = parameters.detach().half().requires_grad_()
    SSNLoss(CLASSES, RANK)(half, target).backward()
    assert half.grad.dtype == torch.float16


@pytest.mark.parametrize(
    ("channel", "term"), [(0, "mean"), (CLASSES, "log-diagonal"), (2 * CLASSES, "covariance factor")]
)
def test_a_non_finite_term_is_named(channel, term):
    parameters, target = inputs()
    broken = parameters.detach().clone()
    broken[1, channel, 2, 3] = torch.nan
    with pytest.raises(FloatingPointError, match=f"the {term} of batch item 1 is nan"):
        SSNLoss(CLASSES, RANK)(broken, target)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"out_channels": 1}, "must be at least 2, got 1"),
        ({"out_channels": 2, "rank": 0}, "rank must be at least 1, got 0"),
        ({"out_channels": 2, "num_samples": 0}, "num_samples must be at least 1, got 0"),
        ({"out_channels": 2, "raters": "all"}, r"one of \('random', 'mean'\), got 'all'"),
        ({"out_channels": 2, "reduction": "max"}, "max"),
    ],
)
def test_rejects_options(arguments, message):
    with pytest.raises(ValueError, match=message):
        SSNLoss(**arguments)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p, y: {"input": p[:, 1:], "target": y}, "= 12 channels"),
        (lambda p, y: {"input": p, "target": y[:, 0]}, r"target must be \[B, raters, \*S\]"),
        (lambda p, y: {"input": p, "target": y[..., 1:]}, r"target must be \[B, raters, \*S\]"),
        (lambda p, y: {"input": p, "target": y + 1}, "label 3, outside the 3 classes"),
        (lambda p, y: {"input": p, "target": y - 1}, "label -1, outside the 3 classes"),
        (lambda p, y: {"input": p, "target": y, "mask": torch.ones(2, 2, 4, 5)}, r"mask must be \[B, 1, \*S\]"),
        (lambda p, y: {"input": p, "target": y, "rater_weights": torch.zeros(2, 1)}, "positive sum"),
        (
            lambda p, y: {"input": p, "target": y, "rater_weights": torch.ones(2, 3)},
            r"rater_weights must be \[2, 1\], .* got the shape \(2, 3\)",
        ),
        (
            lambda p, y: {"input": p, "target": y, "rater_weights": torch.ones(2, 1, 4, 5)},  # a mask
            r"rater_weights must be \[2, 1\], .* got the shape \(2, 1, 4, 5\)",
        ),
        (
            lambda p, y: {"input": p, "target": y, "mask": torch.ones(2, 1)},  # weights
            r"mask must be \[B, 1, \*S\] .* got \(2, 1\): the raters' weights are the argument rater_weights",
        ),
    ],
)
def test_rejects_inputs(change, message):
    with pytest.raises(ValueError, match=message):
        SSNLoss(CLASSES, RANK)(**change(*inputs()))
