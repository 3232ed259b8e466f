# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence
from torch.nn import functional as F

from monai_stochseg.losses import ELBOLoss, gaussian_kl

BATCH, CLASSES, LATENT = 2, 3, 4


def inputs(shape: tuple[int, ...] = (4, 5), raters: int = 1, dtype: torch.dtype = torch.float64):
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(BATCH, CLASSES, *shape, generator=generator, dtype=dtype).requires_grad_()
    latent = [torch.randn(BATCH, LATENT, generator=generator, dtype=dtype).requires_grad_() for _ in range(4)]
    rater = torch.randint(0, raters, (BATCH,), generator=generator)
    target = torch.randint(0, CLASSES, (BATCH, raters, *shape), generator=generator)
    return (logits, *latent, rater), target


def plain_kl(latent: tuple[torch.Tensor, ...]) -> torch.Tensor:
    mean_q, log_std_q, mean_p, log_std_p = latent
    posterior, prior = Normal(mean_q, log_std_q.exp()), Normal(mean_p, log_std_p.exp())
    return kl_divergence(Independent(posterior, 1), Independent(prior, 1))


@pytest.mark.parametrize("shape", [(4, 5), (2, 3, 4)])
@pytest.mark.parametrize("reconstruction", ["sum", "mean"])
@pytest.mark.parametrize("beta", [0.0, 1.0, 2.5])
def test_value_and_gradient_equal_the_plain_formula(shape, reconstruction, beta):
    output, target = inputs(shape)
    value = ELBOLoss(beta, reconstruction, reduction="none")(output, target)
    voxels = F.cross_entropy(output[0], target[:, 0], reduction="none").flatten(1)
    plain = getattr(voxels, reconstruction)(1) + beta * plain_kl(output[1:5])
    torch.testing.assert_close(value, plain)
    for one, two in zip(*(torch.autograd.grad(v.sum(), output[:5]) for v in (value, plain)), strict=True):
        torch.testing.assert_close(one, two)


def test_a_hand_computed_case():
    """Two voxels of two equal classes, 2 log 2; a mean one deviation off, 1/2 nat; halved beta."""
    zero = torch.zeros(1, 1)
    output = (torch.zeros(1, 2, 1, 2), zero + 1, zero, zero, zero, torch.tensor([0]))
    value = ELBOLoss(beta=0.5)(output, torch.tensor([[[[0, 1]]]]))
    assert value.item() == pytest.approx(2 * math.log(2) + 0.25)


def test_kl_is_per_dimension_and_zero_for_equal_normals():
    (_, *latent, _), _ = inputs()
    divergence = gaussian_kl(*latent)
    assert divergence.shape == (BATCH, LATENT)
    torch.testing.assert_close(divergence.sum(1), plain_kl(latent))
    assert (gaussian_kl(*latent[:2], *latent[:2]) == 0).all()


def test_the_target_is_the_rater_of_the_output():
    output, target = inputs(raters=3)
    chosen = torch.stack([y[rater : rater + 1] for y, rater in zip(target, output[-1], strict=True)])
    alone = ELBOLoss()((*output[:-1], torch.zeros(BATCH, dtype=torch.long)), chosen)
    torch.testing.assert_close(ELBOLoss()(output, target), alone, rtol=0, atol=0)


@pytest.mark.parametrize("reconstruction", ["sum", "mean"])
def test_void_voxels_are_left_out(reconstruction):
    output, target = inputs()
    target[:, :, 1] = 255
    value = ELBOLoss(0.0, reconstruction, ignore_index=255, reduction="none")(output, target)
    voxels = F.cross_entropy(output[0], target[:, 0], reduction="none", ignore_index=255)[:, [0, 2, 3]].flatten(1)
    torch.testing.assert_close(value, getattr(voxels, reconstruction)(1))
    nothing = ELBOLoss(0.0, reconstruction, ignore_index=255)(output, torch.full_like(target, 255))
    assert nothing.item() == 0


def test_reductions():
    output, target = inputs()
    values = {reduction: ELBOLoss(reduction=reduction)(output, target) for reduction in ("none", "sum", "mean")}
    assert values["none"].shape == (BATCH,)
    torch.testing.assert_close(values["none"].sum(), values["sum"])
    torch.testing.assert_close(values["none"].mean(), values["mean"])


def test_half_precision_is_computed_in_float32():
    output, target = inputs(shape=(64, 64), dtype=torch.float32)
    half = tuple(x.detach().to(torch.bfloat16) for x in output[:-1])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = ELBOLoss()((*half, output[-1]), target)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, ELBOLoss()((*(x.float() for x in half), output[-1]), target), rtol=0, atol=0)


def test_geco_raises_and_lowers_the_multiplier():
    output, target = inputs()
    cross_entropy = ELBOLoss(beta=0.0, reconstruction="mean")(output, target).item()
    for factor, sign in ((0.1, 1), (10.0, -1)):
        loss = ELBOLoss(0.5, "mean", target_reconstruction=cross_entropy * factor, multiplier_rate=0.1, momentum=0.0)
        first = loss(output, target)
        expected = cross_entropy * (1 - factor) + 0.5 * plain_kl(output[1:5]).mean()
        torch.testing.assert_close(first.detach(), expected.detach())
        violation = max(-1.0, min(1.0, 1 / factor - 1))
        assert loss.log_multiplier.item() == pytest.approx(0.1 * violation)
        assert math.copysign(1, loss.log_multiplier.item()) == sign
        first.backward()  # the update has not touched the graph
        loss.eval()
        before = loss.log_multiplier.clone()
        loss(output, target)
        assert loss.log_multiplier == before


def test_geco_resumes_from_its_state_and_stays_bounded():
    output, target = inputs()
    loss = ELBOLoss(target_reconstruction=1e-3, multiplier_rate=1.0, momentum=0.5)
    for _ in range(3):
        loss(output, target)
    resumed = ELBOLoss(target_reconstruction=1e-3, multiplier_rate=1.0, momentum=0.5)
    resumed.load_state_dict(loss.state_dict())
    torch.testing.assert_close(resumed(output, target), loss(output, target), rtol=0, atol=0)
    for _ in range(20):
        loss(output, target)
    assert loss.log_multiplier.item() == 10
    assert not ELBOLoss().state_dict()


NAMES = ("logits", "posterior_mean", "posterior_log_std", "prior_mean", "prior_log_std")


@pytest.mark.parametrize("index", range(5))
def test_a_non_finite_term_is_named(index):
    output, target = inputs()
    broken = [x.detach().clone() for x in output]
    broken[index][1, 2] = torch.nan
    with pytest.raises(FloatingPointError, match=f"the {NAMES[index]} of batch item 1 is nan"):
        ELBOLoss()(tuple(broken), target)


def test_an_infinite_divergence_of_finite_terms_is_named():
    output, target = inputs()
    broken = [x.detach().clone() for x in output]
    broken[2][1, 2] = 1e6
    with pytest.raises(FloatingPointError, match="the divergence of batch item 1 is inf"):
        ELBOLoss()(tuple(broken), target)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"beta": -1.0}, "beta must not be negative, got -1.0"),
        ({"reconstruction": "max"}, "'sum' or 'mean', got 'max'"),
        ({"target_reconstruction": 0.0}, "target_reconstruction must be positive, got 0.0"),
        ({"multiplier_rate": 0.0}, "multiplier_rate must be positive, got 0.0"),
        ({"momentum": 1.0}, r"momentum must lie in \[0, 1\), got 1.0"),
        ({"reduction": "max"}, "max"),
    ],
)
def test_rejects_options(arguments, message):
    with pytest.raises(ValueError, match=message):
        ELBOLoss(**arguments)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda o, y: (o[0], y), TypeError, r"input must be the tuple \(logits, posterior_mean"),
        (lambda o, y: (o[:5], y), TypeError, "input must be the tuple"),
        (lambda o, y: (o, y[:, 0]), ValueError, r"target must be \[B, raters, \*S\]"),
        (lambda o, y: (o, y[..., 1:]), ValueError, r"target must be \[B, raters, \*S\]"),
        (lambda o, y: ((*o[:5], o[5] + 1), y), ValueError, "one of the target's 1 raters for each of 2 items"),
        (lambda o, y: (o, y + 1), ValueError, "label 3, outside the 3 classes"),
        (lambda o, y: (o, y - 1), ValueError, "label -1, outside the 3 classes"),
        (lambda o, y: ((*o[:4], o[4][:, 1:], o[5]), y), ValueError, "must have one shape"),
    ],
)
def test_rejects_inputs(change, error, message):
    with pytest.raises(error, match=message):
        ELBOLoss()(*change(*inputs()))
