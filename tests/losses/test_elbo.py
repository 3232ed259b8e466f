# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence
from torch.nn import functional as F

from monai_stochseg.distributions import Gaussian, LatentLevel, LatentOutput
from monai_stochseg.losses import ELBOLoss, gaussian_kl
from monai_stochseg.losses.elbo import worst_voxels

BATCH, CLASSES, LATENT = 2, 3, 4


def inputs(shape: tuple[int, ...] = (4, 5), raters: int = 1, dtype: torch.dtype = torch.float64):
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(BATCH, CLASSES, *shape, generator=generator, dtype=dtype).requires_grad_()
    latent = [torch.randn(BATCH, LATENT, generator=generator, dtype=dtype).requires_grad_() for _ in range(4)]
    rater = torch.randint(0, raters, (BATCH,), generator=generator)
    target = torch.randint(0, CLASSES, (BATCH, raters, *shape), generator=generator)
    return output(logits, *latent, rater), target


def output(logits: torch.Tensor, *latent_and_rater: torch.Tensor) -> LatentOutput:
    """Of one level."""
    *latent, rater = latent_and_rater
    return LatentOutput(logits, (LatentLevel(Gaussian(*latent[:2]), Gaussian(*latent[2:])),), rater)


def tensors(output: LatentOutput) -> tuple[torch.Tensor, ...]:
    """Logits, posterior and prior of the first level."""
    posterior, prior = output.levels[0]
    return output.logits, *posterior, *prior


def plain_kl(latent: tuple[torch.Tensor, ...]) -> torch.Tensor:
    mean_q, log_std_q, mean_p, log_std_p = latent
    posterior, prior = Normal(mean_q, log_std_q.exp()), Normal(mean_p, log_std_p.exp())
    return kl_divergence(Independent(posterior, 1), Independent(prior, 1))


@pytest.mark.parametrize("shape", [(4, 5), (2, 3, 4)])
@pytest.mark.parametrize("reconstruction", ["sum", "mean"])
@pytest.mark.parametrize("beta", [0.0, 1.0, 2.5])
def test_value_and_gradient_equal_the_plain_formula(shape, reconstruction, beta):
    given, target = inputs(shape)
    value = ELBOLoss(beta, reconstruction, reduction="none")(given, target)
    voxels = F.cross_entropy(given.logits, target[:, 0], reduction="none").flatten(1)
    plain = getattr(voxels, reconstruction)(1) + beta * plain_kl(tensors(given)[1:])
    torch.testing.assert_close(value, plain)
    for one, two in zip(*(torch.autograd.grad(v.sum(), tensors(given)) for v in (value, plain)), strict=True):
        torch.testing.assert_close(one, two)


def test_a_hand_computed_case():
    """Two voxels of two equal classes, 2 log 2; a mean one deviation off, 1/2 nat; halved beta."""
    zero = torch.zeros(1, 1)
    given = output(torch.zeros(1, 2, 1, 2), zero + 1, zero, zero, zero, torch.tensor([0]))
    value = ELBOLoss(beta=0.5)(given, torch.tensor([[[[0, 1]]]]))
    assert value.item() == pytest.approx(2 * math.log(2) + 0.25)


def test_kl_is_per_dimension_and_zero_for_equal_normals():
    latent = tensors(inputs()[0])[1:]
    divergence = gaussian_kl(*latent)
    assert divergence.shape == (BATCH, LATENT)
    torch.testing.assert_close(divergence.sum(1), plain_kl(latent))
    assert (gaussian_kl(*latent[:2], *latent[:2]) == 0).all()


def test_the_target_is_the_rater_of_the_output():
    given, target = inputs(raters=3)
    chosen = torch.stack([y[rater : rater + 1] for y, rater in zip(target, given.rater, strict=True)])
    alone = ELBOLoss()(given._replace(rater=torch.zeros(BATCH, dtype=torch.long)), chosen)
    torch.testing.assert_close(ELBOLoss()(given, target), alone, rtol=0, atol=0)


@pytest.mark.parametrize("reconstruction", ["sum", "mean"])
def test_void_voxels_are_left_out(reconstruction):
    given, target = inputs()
    target[:, :, 1] = 255
    value = ELBOLoss(0.0, reconstruction, ignore_index=255, reduction="none")(given, target)
    voxels = F.cross_entropy(given.logits, target[:, 0], reduction="none", ignore_index=255)[:, [0, 2, 3]].flatten(1)
    torch.testing.assert_close(value, getattr(voxels, reconstruction)(1))
    nothing = ELBOLoss(0.0, reconstruction, ignore_index=255)(given, torch.full_like(target, 255))
    assert nothing.item() == 0


def test_reductions():
    given, target = inputs()
    values = {reduction: ELBOLoss(reduction=reduction)(given, target) for reduction in ("none", "sum", "mean")}
    assert values["none"].shape == (BATCH,)
    torch.testing.assert_close(values["none"].sum(), values["sum"])
    torch.testing.assert_close(values["none"].mean(), values["mean"])


def test_half_precision_is_computed_in_float32():
    given, target = inputs(shape=(64, 64), dtype=torch.float32)
    half = [x.detach().to(torch.bfloat16) for x in tensors(given)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = ELBOLoss()(output(*half, given.rater), target)
    assert value.dtype == torch.float32
    torch.testing.assert_close(
        value, ELBOLoss()(output(*(x.float() for x in half), given.rater), target), rtol=0, atol=0
    )


def test_geco_raises_and_lowers_the_multiplier():
    given, target = inputs()
    cross_entropy = ELBOLoss(beta=0.0, reconstruction="mean")(given, target).item()
    for factor, sign in ((0.1, 1), (10.0, -1)):
        loss = ELBOLoss(0.5, "mean", target_reconstruction=cross_entropy * factor, multiplier_rate=0.1, momentum=0.0)
        first = loss(given, target)
        expected = cross_entropy * (1 - factor) + 0.5 * plain_kl(tensors(given)[1:]).mean()
        torch.testing.assert_close(first.detach(), expected.detach())
        violation = max(-1.0, min(1.0, 1 / factor - 1))
        assert loss.log_multiplier.item() == pytest.approx(0.1 * violation)
        assert math.copysign(1, loss.log_multiplier.item()) == sign
        first.backward()  # the update has not touched the graph
        loss.eval()
        before = loss.log_multiplier.clone()
        loss(given, target)
        assert loss.log_multiplier == before


@pytest.mark.parametrize("shape", [(4, 5), (2, 3, 4)])
@pytest.mark.parametrize("log_multiplier", [0.0, 0.8, -1.5])
def test_the_gradient_under_geco_is_that_of_the_weighted_terms(shape, log_multiplier):
    given, target = inputs(shape)
    loss = ELBOLoss(0.5, target_reconstruction=3.0, reduction="none")
    loss.log_multiplier.fill_(log_multiplier)
    value = loss(given, target)
    voxels = F.cross_entropy(given.logits, target[:, 0], reduction="none").flatten(1)
    plain = math.exp(log_multiplier) * (voxels.sum(1) - 3) + 0.5 * plain_kl(tensors(given)[1:])
    torch.testing.assert_close(value, plain)
    for one, two in zip(*(torch.autograd.grad(v.sum(), tensors(given)) for v in (value, plain)), strict=True):
        torch.testing.assert_close(one, two)


def test_geco_resumes_from_its_state_and_stays_bounded():
    given, target = inputs()
    loss = ELBOLoss(target_reconstruction=1e-3, multiplier_rate=1.0, momentum=0.5)
    for _ in range(3):
        loss(given, target)
    resumed = ELBOLoss(target_reconstruction=1e-3, multiplier_rate=1.0, momentum=0.5)
    resumed.load_state_dict(loss.state_dict())
    torch.testing.assert_close(resumed(given, target), loss(given, target), rtol=0, atol=0)
    for _ in range(20):
        loss(given, target)
    assert loss.log_multiplier.item() == 10
    assert not ELBOLoss().state_dict()


NAMES = ("logits", "posterior_mean", "posterior_log_std", "prior_mean", "prior_log_std")


@pytest.mark.parametrize("index", range(5))
def test_a_non_finite_term_is_named(index):
    given, target = inputs()
    broken = [x.detach().clone() for x in tensors(given)]
    broken[index][1, 2] = torch.nan
    with pytest.raises(FloatingPointError, match=f"the {NAMES[index]} of batch item 1 is nan"):
        ELBOLoss()(output(*broken, given.rater), target)


def test_an_infinite_divergence_of_finite_terms_is_named():
    given, target = inputs()
    broken = [x.detach().clone() for x in tensors(given)]
    broken[2][1, 2] = 1e6
    with pytest.raises(FloatingPointError, match="the divergence of batch item 1 is inf"):
        ELBOLoss()(output(*broken, given.rater), target)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"beta": -1.0}, "beta must not be negative, got -1.0"),
        ({"reconstruction": "max"}, r"one of \('sum', 'mean'\), got 'max'"),
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
        (
            lambda o, y: (o.logits, y),
            TypeError,
            r"input must be LatentOutput\(logits, levels, rater, partial\), got a Tensor",
        ),
        (lambda o, y: ((*o,), y), TypeError, "input must be LatentOutput.*, got tuple"),
        (lambda o, y: (o._replace(levels=()), y), ValueError, "at least one level"),
        (lambda o, y: (o, y[:, 0]), ValueError, r"target must be \[B, raters, \*S\]"),
        (lambda o, y: (o, y[..., 1:]), ValueError, r"target must be \[B, raters, \*S\]"),
        (lambda o, y: (o._replace(rater=o.rater + 1), y), ValueError, "one of the target's 1 raters for each of 2"),
        (lambda o, y: (o, y + 1), ValueError, "label 3, outside the 3 classes"),
        (lambda o, y: (o, y - 1), ValueError, "label -1, outside the 3 classes"),
        (lambda o, y: (o, y, torch.ones(2, 2)), ValueError, r"rater_weights must be \[2, 1\]"),
        (
            lambda o, y: (output(*tensors(o)[:4], tensors(o)[4][:, 1:], o.rater), y),
            ValueError,
            "prior_log_std must have the shape of prior_mean",
        ),
    ],
)
def test_rejects_inputs(change, error, message):
    with pytest.raises(error, match=message):
        ELBOLoss()(*change(*inputs()))


def test_the_divergence_is_summed_over_levels():
    given, target = inputs()
    (level,) = given.levels
    plain = plain_kl(tensors(given)[1:])
    places = LatentLevel(*(Gaussian(*(x[..., None, None].expand(-1, -1, 2, 3) for x in n)) for n in level))
    alone, both = (
        ELBOLoss(reduction="none")(given._replace(levels=levels), target) for levels in ((level,), (level, places))
    )
    torch.testing.assert_close(both - alone, 6 * plain)


def test_the_level_of_a_non_finite_term_is_named():
    given, target = inputs()
    (level,) = given.levels
    broken = level._replace(prior=Gaussian(level.prior.mean, level.prior.log_std * torch.nan))
    with pytest.raises(FloatingPointError, match="the prior_log_std of level 1 of batch item 0 is nan"):
        ELBOLoss()(given._replace(levels=(level, broken)), target)


def test_a_missing_rater_is_not_read_and_must_not_be_drawn():
    given, target = inputs(raters=3)
    given = given._replace(rater=torch.tensor([0, 2]))
    weights = torch.tensor([[1.0, 0.0, 3.0], [0.0, 1.0, 1.0]])
    expected = ELBOLoss()(given, target)
    target[0, 1], target[1, 0] = 255, -7
    torch.testing.assert_close(ELBOLoss()(given, target, weights), expected, rtol=0, atol=0)
    with pytest.raises(ValueError, match=r"drew the raters \[0, 2\], one of whom is missing"):
        ELBOLoss()(given, target, weights.flip(0))


def test_deep_supervision_adds_the_cross_entropy_of_each_part():
    given, target = inputs()
    parts = tuple(torch.randn_like(given.logits).requires_grad_() for _ in range(2))
    deep = given._replace(partial=parts)
    value = ELBOLoss(reduction="none")(deep, target)
    plain = ELBOLoss(reduction="none")(given, target)
    for part in parts:
        plain = plain + F.cross_entropy(part, target[:, 0], reduction="none").flatten(1).sum(1)
    torch.testing.assert_close(value, plain)
    wanted = (*tensors(given), *parts)
    for one, two in zip(*(torch.autograd.grad(v.sum(), wanted) for v in (value, plain)), strict=True):
        torch.testing.assert_close(one, two)


def test_each_level_has_its_weight():
    given, target = inputs()
    (level,) = given.levels
    both = given._replace(levels=(level, LatentLevel(level.prior, level.posterior)))
    value = ELBOLoss(2.0, level_weights=[4, 0.5], reduction="none")(both, target)
    kl = plain_kl(tensors(given)[1:]), plain_kl((*level.prior, *level.posterior))
    voxels = F.cross_entropy(given.logits, target[:, 0], reduction="none").flatten(1).sum(1)
    torch.testing.assert_close(value, voxels + 2 * (4 * kl[0] + 0.5 * kl[1]))


def test_parts_and_weights_must_fit():
    given, target = inputs()
    with pytest.raises(ValueError, match=r"level_weights must hold one value for each of 1 levels, got \[1.0, 2.0\]"):
        ELBOLoss(level_weights=[1, 2])(given, target)
    with pytest.raises(ValueError, match=r"level_weights\[1\] must not be negative, got -1"):
        ELBOLoss(level_weights=[1, -1])
    with pytest.raises(ValueError, match=r"partial must have the shape of logits, \(2, 3, 4, 5\), got"):
        ELBOLoss()(given._replace(partial=(given.logits[..., 1:],)), target)
    broken = given.logits.detach().clone()
    broken[1, 0, 0, 0] = torch.nan
    with pytest.raises(FloatingPointError, match=r"the partial\[0\] of batch item 1 is nan"):
        ELBOLoss()(given._replace(partial=(broken,)), target)


@pytest.mark.parametrize("reconstruction", ["sum", "mean"])
@pytest.mark.parametrize("shape", [(4, 5), (2, 3, 4)])
def test_of_all_voxels_the_worst_count(shape, reconstruction):
    given, target = inputs(shape)
    target[0].flatten()[:3] = 255
    loss = ELBOLoss(0.0, reconstruction, 255, top_k=0.3, top_k_sampled=False, reduction="none")
    value = loss(given, target)
    voxels = F.cross_entropy(given.logits, target[:, 0], reduction="none", ignore_index=255).flatten(1)
    number = int(0.3 * (voxels.numel() - 3))
    chosen = voxels >= voxels.flatten().topk(number).values[-1]
    plain = (voxels * chosen).sum(1)
    plain = plain if reconstruction == "sum" else plain / chosen.sum(1).clamp(min=1)
    torch.testing.assert_close(value, plain)
    gradients = [torch.autograd.grad(v.sum(), given.logits)[0] for v in (value, plain)]
    torch.testing.assert_close(*gradients)


def test_voxels_are_drawn_in_proportion_to_their_values():
    """Of three voxels one is drawn; a value of 0 and a void voxel never."""
    values = torch.tensor([[1.0, 3.0, 0.0, 9.0]])
    valid = torch.tensor([[True, True, True, False]])
    generator = torch.Generator().manual_seed(0)
    draws = torch.stack([worst_voxels(values, valid, 0.34, True, generator) for _ in range(2000)])
    assert (draws.sum((1, 2)) == 1).all()
    torch.testing.assert_close(draws.float().mean((0, 1)), torch.tensor([0.25, 0.75, 0, 0]), atol=0.03, rtol=0)


def test_a_target_for_each_voxel_that_counts():
    given, target = inputs()
    loss = ELBOLoss(
        0.0, target_reconstruction=0.05, target_per_voxel=True, top_k=0.25, top_k_sampled=False, momentum=0.0
    )
    value = loss(given, target)
    voxels = F.cross_entropy(given.logits, target[:, 0], reduction="none").flatten()
    worst = voxels.topk(10).values
    torch.testing.assert_close(value, (worst.sum() - 0.05 * 10) / BATCH)
    assert loss.violation.item() == min(1, worst.mean().item() / 0.05 - 1)
    nothing = ELBOLoss(0.0, "sum", 255, 0.05, target_per_voxel=True, top_k=0.25)
    assert nothing(given, torch.full_like(target, 255)).item() == 0
    assert nothing.violation.item() == 0


def test_the_draw_of_voxels_replays():
    given, target = inputs()
    loss = ELBOLoss(top_k=0.2)
    one, two = (loss(given, target, generator=torch.Generator().manual_seed(1)) for _ in range(2))
    assert one.item() == two.item()
    assert len({loss(given, target).item() for _ in range(5)}) > 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"top_k": 0.0}, r"top_k must lie in \(0, 1\], got 0.0"),
        ({"top_k": 1.5}, r"top_k must lie in \(0, 1\], got 1.5"),
        ({"target_per_voxel": True}, "target_per_voxel=True needs a target_reconstruction"),
        (
            {"target_per_voxel": True, "target_reconstruction": 1.0, "reconstruction": "mean"},
            "target_per_voxel=True needs a target_reconstruction, and reconstruction 'sum', got 1.0 and 'mean'",
        ),
    ],
)
def test_rejects_options_of_the_worst_voxels(arguments, message):
    with pytest.raises(ValueError, match=message):
        ELBOLoss(**arguments)
