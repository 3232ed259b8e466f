# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from torch.distributions import Normal, kl_divergence
from torch.nn import functional as F

from monai_stochseg.distributions import BayesianOutput, Gaussian, LatentLevel, LatentOutput
from monai_stochseg.losses import ELBOLoss, SupervisedUncertaintyLoss, log_uniform_kl

BATCH, RATERS, SAMPLES, CLASSES, LATENT, IMAGES = 2, 3, 4, 3, 2, 5
EULER = 0.5772156649015329


def inputs(shape: tuple[int, ...] = (3, 4), dtype: torch.dtype = torch.float64):
    generator = torch.Generator().manual_seed(3)

    def normal(*size: int) -> torch.Tensor:
        return torch.randn(size, generator=generator, dtype=dtype).requires_grad_()

    level = LatentLevel(*(Gaussian(normal(BATCH, LATENT), normal(BATCH, LATENT)) for _ in range(2)))
    latent = LatentOutput(normal(BATCH, CLASSES, *shape), (level,), torch.tensor([0, 2]))
    weights = tuple(Gaussian(normal(*size), normal(*size)) for size in ((2, 3), (4,)))
    target = torch.randint(0, CLASSES, (BATCH, RATERS, *shape), generator=generator)
    return BayesianOutput(latent, normal(BATCH, SAMPLES, CLASSES, *shape), weights), target


def tensors(output: BayesianOutput) -> tuple[torch.Tensor, ...]:
    posterior, prior = output.latent.levels[0]
    return (output.latent.logits, *posterior, *prior, output.samples, *(t for w in output.weights for t in w))


def plain_uncertainty(samples, target, weights, kind: str) -> torch.Tensor:
    """Voxel by voxel and reader by reader, ``[B, voxels]``."""
    probabilities = samples.softmax(2).flatten(3)
    values = torch.zeros(len(samples), probabilities.shape[-1], dtype=samples.dtype)
    for b, item in enumerate(probabilities):
        for v in range(item.shape[-1]):
            p = sum(sample[:, v] for sample in item) / len(item)
            m = torch.zeros_like(p)
            for r, weight in enumerate(weights[b].tolist()):
                m[target[b, r].flatten()[v]] += weight / weights[b].sum()
            if kind == "cross_entropy":
                values[b, v] = -(m * p.log()).sum()
            else:
                values[b, v] = ((1 - (p * p).sum()) - (1 - (m * m).sum())) ** 2
    return values


@pytest.mark.parametrize("shape", [(3, 4), (2, 2, 3)])
@pytest.mark.parametrize("uncertainty", ["cross_entropy", "variance"])
@pytest.mark.parametrize("reconstruction", ["sum", "mean"])
@pytest.mark.parametrize("prior", ["normal", "log_uniform"])
def test_value_and_gradient_equal_the_plain_formula(shape, uncertainty, reconstruction, prior):
    given, target = inputs(shape)
    rater_weights = torch.tensor([[1.0, 2.0, 1.0], [1.0, 1.0, 1.0]])
    loss = SupervisedUncertaintyLoss(
        IMAGES, 0.7, uncertainty, 0.6, prior, beta=0.5, reconstruction=reconstruction, reduction="none"
    )
    value = loss(given, target, rater_weights)
    bound = ELBOLoss(0.5, reconstruction, reduction="none")(given.latent, target, rater_weights)
    of_readers = plain_uncertainty(given.samples, target, rater_weights, uncertainty)
    divergence = 0.0
    for mean, log_std in given.weights:
        if prior == "normal":
            divergence = divergence + kl_divergence(Normal(mean, log_std.exp()), Normal(0.0, 1.0)).sum()
        else:
            log_alpha = 2 * log_std - (mean**2).log()
            kl = 0.63576 - 0.63576 * torch.sigmoid(1.8732 + 1.48695 * log_alpha) + 0.5 * (1 + 1 / log_alpha.exp()).log()
            divergence = divergence + kl.sum()
    plain = bound + 0.7 * getattr(of_readers, reconstruction)(1) + 0.6 * divergence / IMAGES
    torch.testing.assert_close(value, plain)
    for one, two in zip(*(torch.autograd.grad(v.sum(), tensors(given)) for v in (value, plain)), strict=True):
        torch.testing.assert_close(one, two)


def numeric_kl(log_alpha: float) -> float:
    """
    Of a normal of mean 1 and variance alpha from the log-uniform prior, ``E log |w| - log std`` and a constant, such
    that noise alone costs nothing: of a standard normal e, ``E log |e| = -(Euler's constant + log 2) / 2``.
    """
    std = math.exp(log_alpha / 2)

    def integrand(w: float) -> float:
        return math.exp(-(((w - 1) / std) ** 2) / 2) / (std * math.sqrt(2 * math.pi)) * math.log(abs(w))

    low, high = 1 - 12 * std, 1 + 12 * std
    places = sorted({low, high, *(p for p in (0.0, 1.0) if low < p < high)})
    mean = sum(quad(integrand, a, b, limit=400)[0] for a, b in pairwise(places))
    return mean - math.log(std) + (EULER + math.log(2)) / 2


@pytest.mark.parametrize("log_alpha", [-8.0, -4.0, -2.0, -1.0, 0.0, 1.0, 2.0, 4.0, 8.0])
@pytest.mark.parametrize("mean", [1.0, -0.01, 30.0])
def test_the_divergence_from_the_log_uniform_prior_is_that_of_an_integral(log_alpha, mean):
    """The approximation's greatest error is below 0.01 nats."""
    log_std = torch.tensor([log_alpha / 2 + math.log(abs(mean))], dtype=torch.float64)
    found = log_uniform_kl(torch.tensor([mean], dtype=torch.float64), log_std)
    assert found.item() == pytest.approx(numeric_kl(log_alpha), abs=0.01)


def test_a_weight_of_mean_0_has_a_finite_gradient():
    mean, log_std = torch.zeros(3, requires_grad=True), torch.zeros(3, requires_grad=True)
    value = log_uniform_kl(mean, log_std).sum()
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-6)
    assert all(torch.isfinite(g).all() for g in (mean.grad, log_std.grad))


def only_uncertainty(kind: str = "variance", **options) -> SupervisedUncertaintyLoss:
    return SupervisedUncertaintyLoss(1, 1.0, kind, 0.0, reduction="none", **options)


def value_of_readers(given: BayesianOutput, target: torch.Tensor, weights=None, **options) -> torch.Tensor:
    """The term by itself: the loss with it less the loss without."""
    whole = only_uncertainty(**options)
    without = only_uncertainty(**options)
    without.uncertainty_weight = 0.0
    return whole(given, target, weights) - without(given, target, weights)


def test_a_hand_computed_variance():
    """Readers 0, 0, 0, 1: 1 - 9/16 - 1/16 = 3/8; samples of 1/2: 1/2. (1/2 - 3/8)^2 = 1/64."""
    given, _ = inputs((1, 1))
    given = given._replace(samples=torch.zeros(BATCH, SAMPLES, CLASSES, 1, 1))
    given.samples[:, :, 2] = -1e4
    target = torch.tensor([0, 0, 0, 1]).reshape(1, 4, 1, 1).expand(BATCH, -1, -1, -1)
    found = value_of_readers(given, target, kind="variance")
    torch.testing.assert_close(found.double(), torch.full((BATCH,), 1 / 64, dtype=torch.float64), atol=1e-6, rtol=0)
    found = value_of_readers(given, target, kind="cross_entropy")
    torch.testing.assert_close(found.double(), torch.full((BATCH,), math.log(2)).double(), atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", ["cross_entropy", "variance"])
def test_it_is_least_where_the_samples_are_as_the_readers_are(kind):
    given, _ = inputs((1, 1))
    target = torch.tensor([0, 0, 0, 1]).reshape(1, 4, 1, 1).expand(BATCH, -1, -1, -1)

    def value(logits: torch.Tensor) -> float:
        samples = logits.reshape(1, 4, CLASSES, 1, 1).expand(BATCH, -1, -1, -1, -1)
        return value_of_readers(given._replace(samples=samples), target, kind=kind)[0].item()

    certain = 30 * F.one_hot(torch.tensor([0, 0, 0, 1]), CLASSES).double()  # coherent draws in proportion
    spread = torch.tensor([[0.75, 0.25, 1e-9]] * 4).double().log()  # the same mean, without a draw
    other = 30 * F.one_hot(torch.tensor([0, 0, 1, 1]), CLASSES).double()
    assert value(certain) == pytest.approx(value(spread), abs=1e-6)
    assert value(other) > value(certain) + 0.01


@pytest.mark.parametrize("kind", ["cross_entropy", "variance"])
def test_a_missing_rater_contributes_nothing(kind):
    given, target = inputs()
    weights = torch.tensor([[1.0, 0.0, 1.0], [2.0, 0.0, 2.0]])
    scribbled = target.clone()
    scribbled[:, 1] = 77
    alone = target[:, [0, 2]]
    latent = given.latent._replace(rater=torch.tensor([0, 1]))
    found = value_of_readers(given, scribbled, weights, kind=kind)
    torch.testing.assert_close(found, value_of_readers(given._replace(latent=latent), alone, kind=kind))


def test_one_readers_variance_is_no_lesson():
    """Neither of one rater, nor of one who is not missing, nor where one alone sees a voxel; cross entropy goes on."""
    given, target = inputs()
    latent = given.latent._replace(rater=torch.tensor([0, 0]))
    one = given._replace(latent=latent)
    for labels, weights in ((target[:, :1], None), (target, torch.tensor([[1.0, 0.0, 0.0]] * 2))):
        assert value_of_readers(one, labels, weights, kind="variance").tolist() == [0, 0]
        assert (value_of_readers(one, labels, weights, kind="cross_entropy") > 0).all()
        assert torch.isfinite(torch.autograd.grad(only_uncertainty()(one, labels, weights).sum(), one.samples)[0]).all()
    void = target.clone()
    void[:, 1:, 0, 0] = 255
    seen = value_of_readers(one, void, kind="variance", ignore_index=255)
    changed = void.clone()
    changed[:, 0, 0, 0] = (changed[:, 0, 0, 0] + 1) % CLASSES
    torch.testing.assert_close(seen, value_of_readers(one, changed, kind="variance", ignore_index=255))


@pytest.mark.parametrize("kind", ["cross_entropy", "variance"])
def test_void_voxels_are_left_out(kind):
    given, target = inputs()
    target[:, :, 0] = 255
    found = value_of_readers(given, target, kind=kind, ignore_index=255)
    rest = given._replace(
        samples=given.samples[..., 1:, :], latent=given.latent._replace(logits=given.latent.logits[..., 1:, :])
    )
    torch.testing.assert_close(found, value_of_readers(rest, target[:, :, 1:], kind=kind))
    nothing = torch.full_like(target, 255)
    assert value_of_readers(given, nothing, kind=kind, ignore_index=255).tolist() == [0, 0]


@pytest.mark.parametrize("kind", ["cross_entropy", "variance"])
def test_a_reader_to_whom_a_voxel_is_void_is_missing_there(kind):
    given, _ = inputs((1, 1))
    given = given._replace(latent=given.latent._replace(rater=torch.tensor([0, 0])))
    three, two = (
        torch.tensor(labels).reshape(1, -1, 1, 1).expand(BATCH, -1, -1, -1) for labels in ([2, 255, 1], [2, 1])
    )
    found = value_of_readers(given, three, kind=kind, ignore_index=255)
    torch.testing.assert_close(found, value_of_readers(given, two, kind=kind, ignore_index=255))


def test_reductions_and_the_schedules_attribute():
    given, target = inputs()
    items = SupervisedUncertaintyLoss(IMAGES, reduction="none")(given, target)
    assert SupervisedUncertaintyLoss(IMAGES)(given, target).item() == pytest.approx(items.mean().item())
    assert SupervisedUncertaintyLoss(IMAGES, reduction="sum")(given, target).item() == pytest.approx(items.sum().item())
    loss = SupervisedUncertaintyLoss(IMAGES, ignore_index=255)
    loss.beta = 0.0
    assert loss(given, target) < items.mean()
    assert (loss.beta, loss.ignore_index) == (0.0, 255)


def test_half_precision_is_computed_in_float32():
    given, target = inputs(dtype=torch.float32)
    half = given._replace(samples=given.samples.detach().half())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = SupervisedUncertaintyLoss(IMAGES)(half, target)
    assert found.dtype == torch.float32
    expected = SupervisedUncertaintyLoss(IMAGES)(half._replace(samples=half.samples.float()), target)
    torch.testing.assert_close(found, expected)


def test_a_term_that_is_not_finite_is_named():
    given, target = inputs()
    with pytest.raises(
        FloatingPointError, match="SupervisedUncertaintyLoss: the samples of batch item 0 give a term of nan"
    ):
        SupervisedUncertaintyLoss(1)(given._replace(samples=given.samples * math.nan), target)
    bad = (
        given.weights[0],
        Gaussian(given.weights[0].mean * np.inf, given.weights[0].log_std),
    )
    with pytest.raises(FloatingPointError, match="the weights of random layer 1 give a term of inf"):
        SupervisedUncertaintyLoss(1)(given._replace(weights=bad), target)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_images": 0}, "num_images must be at least 1, got 0"),
        ({"uncertainty_weight": -1.0}, "uncertainty_weight must not be negative, got -1.0"),
        ({"weight_beta": -1.0}, "weight_beta must not be negative"),
        ({"uncertainty": "entropy"}, "uncertainty"),
        ({"weight_prior": "flat"}, "weight_prior"),
    ],
)
def test_rejects_options(arguments, message):
    with pytest.raises(ValueError, match=message):
        SupervisedUncertaintyLoss(**{"num_images": 1, **arguments})


def test_rejects_inputs():
    given, target = inputs()
    loss = SupervisedUncertaintyLoss(1)
    with pytest.raises(TypeError, match="input"):
        loss(given.latent, target)
    with pytest.raises(ValueError, match="random weights of at least one layer, got none"):
        loss(given._replace(weights=()), target)
    with pytest.raises(ValueError, match=r"samples must be \[B, N, C, \*S\]"):
        loss(given._replace(samples=given.samples[..., 1:]), target)
