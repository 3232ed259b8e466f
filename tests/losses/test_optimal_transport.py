# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from monai.data import MetaTensor

from monai_stochseg.distributions import ExpertSamples
from monai_stochseg.handlers import LossSchedule
from monai_stochseg.losses import OptimalTransportLoss, cross_entropy_cost, iou_cost, solve_coupling

BATCH, EXPERTS, SAMPLES, RATERS, CLASSES = 3, 3, 6, 4, 3
COSTS = {"iou": iou_cost, "ce": cross_entropy_cost}
IGNORE = 255


def inputs(shape: tuple[int, ...] = (4, 5)) -> tuple[ExpertSamples, torch.Tensor, torch.Tensor]:
    """Float64; some voxels void, the last rater of the first item missing."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(BATCH, SAMPLES, CLASSES, *shape, generator=generator, dtype=torch.float64).requires_grad_()
    gate = torch.randn(BATCH, SAMPLES, generator=generator, dtype=torch.float64)
    target = torch.randint(CLASSES, (BATCH, RATERS, *shape), generator=generator)
    target[torch.rand(target.shape, generator=generator) < 0.2] = IGNORE
    target[0, -1] = IGNORE
    weights = torch.rand(BATCH, RATERS, generator=generator, dtype=torch.float64)
    weights[0, -1] = 0
    return ExpertSamples(logits, gate.softmax(1).requires_grad_(), EXPERTS), target, weights


def plain(samples: ExpertSamples, target, rater_weights, name: str, beta: float, gamma: float, solver: str):
    """The formula item by item; the costs have tests of their own."""
    valid = target != IGNORE
    cost = COSTS[name](samples.logits, target * valid, valid)
    v = rater_weights / rater_weights.sum(1, keepdim=True)
    plans = solve_coupling(cost.detach(), v, gamma, solver)
    losses = []
    for plan, costs, u in zip(plans, cost, samples.weights, strict=True):
        q = plan.sum(1)
        some = q > 0
        losses.append((plan * costs).sum() + beta * (q[some] * (q[some] / u[some]).log()).sum())
    return torch.stack(losses)


def one_pixel(*odds: float, weights: list[float], num_experts: int = 1) -> ExpertSamples:
    """Samples of one voxel and two classes, the second with the given odds."""
    logits = torch.tensor([[0.0, math.log(x)] for x in odds]).reshape(1, -1, 2, 1, 1).requires_grad_()
    return ExpertSamples(logits, torch.tensor([weights]).requires_grad_(), num_experts)


def test_a_hand_computed_case():
    """
    The rater of class 1, of mass 1/4, is nearest to the sample of odds 3, at log 4/3; the rater of class 0 to the one
    of odds 1/3, at the same cost. The third sample has no mass.
    """
    samples = one_pixel(3, 1 / 3, 1, weights=[0.5, 0.25, 0.25])
    target = torch.tensor([1, 0]).reshape(1, 2, 1, 1)
    value = OptimalTransportLoss("ce", beta=2.0)(samples, target, torch.tensor([[1.0, 3.0]]))
    divergence = 0.25 * math.log(0.25 / 0.5) + 0.75 * math.log(0.75 / 0.25)
    assert value.item() == pytest.approx(math.log(4 / 3) + 2 * divergence)
    logits, weights = torch.autograd.grad(value, samples[:2])
    expected = 0.25 * torch.tensor([[0.25, -0.25], [-0.75, 0.75], [0.0, 0.0]])  # mass * (softmax - one-hot)
    torch.testing.assert_close(logits.reshape(3, 2), expected)
    torch.testing.assert_close(weights, -2 * torch.tensor([[0.25 / 0.5, 0.75 / 0.25, 0.0]]))


@pytest.mark.parametrize("shape", [(4, 5), (2, 3, 4)])
@pytest.mark.parametrize("cost", ["iou", "ce"])
@pytest.mark.parametrize(
    ("gamma", "solver"), [(1.0, "greedy"), (0.3, "greedy"), (0.3, "exact"), (1 / SAMPLES, "exact"), (1.0, "pairwise")]
)
def test_value_and_gradient_equal_the_plain_formula(shape, cost, gamma, solver):
    samples, target, weights = inputs(shape)
    loss = OptimalTransportLoss(cost, 0.7, gamma, solver, ignore_index=IGNORE, reduction="none")
    value, expected = loss(samples, target, weights), plain(samples, target, weights, cost, 0.7, gamma, solver)
    torch.testing.assert_close(value, expected)
    gradients = (torch.autograd.grad(v.sum(), samples[:2]) for v in (value, expected))
    for one, two in zip(*gradients, strict=True):
        torch.testing.assert_close(one, two)


@pytest.mark.parametrize("cost", ["iou", "ce"])
def test_gradient_is_that_of_the_differences(cost):
    samples, target, weights = inputs()
    loss = OptimalTransportLoss(cost, gamma=0.4, ignore_index=IGNORE)
    (gradient,) = torch.autograd.grad(loss(samples, target, weights), samples.logits)
    step = 1e-6 * torch.randn(samples.logits.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    up, down = (
        loss(samples._replace(logits=samples.logits.detach() + sign * step), target, weights) for sign in (1, -1)
    )
    torch.testing.assert_close((gradient * step).sum(), (up - down) / 2, rtol=1e-5, atol=0)


def test_a_cost_may_be_a_function_and_of_its_own_gradient():
    samples, target, weights = inputs()
    options = {"gamma": 0.3, "ignore_index": IGNORE}
    both = OptimalTransportLoss(lambda *x: iou_cost(*x) + 2 * cross_entropy_cost(*x), **options)
    value = both(samples, target, weights)
    named = OptimalTransportLoss(iou_cost, **options), OptimalTransportLoss("iou", **options)
    torch.testing.assert_close(*(loss(samples, target, weights) for loss in named), rtol=0, atol=0)
    valid = target != IGNORE
    cost = iou_cost(samples.logits, target * valid, valid) + 2 * cross_entropy_cost(
        samples.logits, target * valid, valid
    )
    plan = solve_coupling(cost, weights / weights.sum(1, keepdim=True), 0.3)
    q = plan.sum(2)
    expected = (plan * cost).sum() + torch.xlogy(q, q).sum() - (q * samples.weights.log()).sum()
    torch.testing.assert_close(value, expected / BATCH)


@pytest.mark.parametrize("cost", ["iou", "ce"])
def test_a_missing_rater_is_as_one_that_is_not_there(cost):
    samples, target, _ = inputs()
    loss = OptimalTransportLoss(cost, gamma=0.4, ignore_index=IGNORE, rater_weighting=0.5)
    three = target[:, :3]
    weights = torch.tensor([[1.0, 2.0, 3.0, 0.0]] * BATCH)
    torch.testing.assert_close(loss(samples, target, weights), loss(samples, three, weights[:, :3]))
    target[:, 3] = torch.randint(CLASSES, target[:, 3].shape)
    torch.testing.assert_close(loss(samples, target, weights), loss(samples, three, weights[:, :3]))


@pytest.mark.parametrize("cost", ["iou", "ce"])
@pytest.mark.parametrize("share_threshold", [None, 0.01])
def test_a_rater_of_void_alone_is_missing_and_an_item_of_void_teaches_nothing(cost, share_threshold):
    samples, target, _ = inputs()
    loss = OptimalTransportLoss(cost, gamma=0.4, ignore_index=IGNORE, share_threshold=share_threshold, reduction="none")
    target[1, 2] = IGNORE
    own, absent = torch.tensor([[1.0, 2.0, 3.0, 4.0]] * BATCH), torch.tensor([[1.0, 2.0, 0.0, 4.0]] * BATCH)
    for t in (0.5, 1.0):
        loss.rater_weighting = t
        torch.testing.assert_close(loss(samples, target, own)[1], loss(samples, target, absent)[1])
    target[1] = IGNORE
    value = loss(samples, target, own)
    assert (value == 0).tolist() == [False, True, False]
    for gradient in torch.autograd.grad(value.sum(), samples[:2]):
        assert (gradient.flatten(1) != 0).any(1).tolist() == [True, False, True]


def test_rater_weighting_goes_from_uniform_to_the_raters_own():
    samples, target, weights = inputs()
    target, weights = target[1:], weights[1:]
    samples = ExpertSamples(samples.logits[1:], samples.weights[1:], EXPERTS)

    def value(t: float, own: torch.Tensor | None) -> torch.Tensor:
        return OptimalTransportLoss("ce", rater_weighting=t, ignore_index=IGNORE)(samples, target, own)

    torch.testing.assert_close(value(0.0, weights), value(1.0, None))
    own = weights / weights.sum(1, keepdim=True)
    torch.testing.assert_close(value(0.25, weights), value(1.0, 0.75 / RATERS + 0.25 * own))


def test_a_sample_without_mass_may_have_no_weight_but_one_with_mass_may_not():
    target = torch.ones(1, 1, 1, 1)
    samples = one_pixel(3, 1, weights=[1.0, 0.0])
    value = OptimalTransportLoss("ce")(samples, target)
    (gradient,) = torch.autograd.grad(value, samples.weights)
    assert value.item() == pytest.approx(math.log(4 / 3))
    assert gradient.tolist() == [[-1.0, 0.0]]
    with pytest.raises(FloatingPointError, match="divergence of batch item 0 is inf"):
        OptimalTransportLoss("ce")(one_pixel(1, 3, weights=[1.0, 0.0]), target)


def test_equal_experts_share_the_gradient_of_their_weights():
    """
    Three experts of two samples. All mass goes to the first sample, whose gradient is -1 / 0.1 when alone. Its expert,
    of weight 0.2, draws as the second one, of weight 0.3, does: together their gradient is -1 / 0.5.
    """
    target = torch.ones(1, 1, 8, 8)
    like, unlike = torch.zeros(1, 4, 2, 8, 8), torch.zeros(1, 2, 2, 8, 8)
    like[:, :, 1] = 9
    unlike[:, :, 0] = 9
    weights = torch.tensor([[0.1, 0.1, 0.1, 0.2, 0.2, 0.3]]).requires_grad_()
    samples = ExpertSamples(torch.cat([like, unlike], dim=1).requires_grad_(), weights, 3)
    for threshold, expected in ((0.9, [-2.0] * 4 + [0.0] * 2), (1.1, [-10.0] + [0.0] * 5), (None, [-10.0] + [0.0] * 5)):
        loss = OptimalTransportLoss("iou", share_threshold=threshold)
        value = loss(samples, target)
        logits, gradient = torch.autograd.grad(value, samples[:2])
        torch.testing.assert_close(gradient, torch.tensor([expected]))
        assert (logits[:, 1:] == 0).all()
        assert (logits[:, 0] != 0).all()


def test_experts_that_do_not_overlap_keep_their_gradients():
    samples, target, weights = inputs()
    values = (
        OptimalTransportLoss("ce", gamma=0.3, share_threshold=g, ignore_index=IGNORE)(
            samples._replace(weights=w), target, weights
        )
        for g, w in ((None, samples.weights), (0.999, samples.weights))
    )
    alone, grouped = (torch.autograd.grad(value, samples.weights)[0] for value in values)
    means = (alone * samples.weights).unflatten(1, (EXPERTS, 2)).sum(2) / samples.weights.unflatten(
        1, (EXPERTS, 2)
    ).sum(2)
    torch.testing.assert_close(grouped, means.repeat_interleave(2, dim=1))


@pytest.mark.parametrize("name", ["beta", "gamma", "rater_weighting", "share_threshold"])
def test_a_schedule_sets_it(name):
    loss = OptimalTransportLoss(share_threshold=1.1)
    schedule = LossSchedule(loss, name, [[1, 0.5], [3, 1.0]])
    for epoch, value in ((1, 0.5), (2, 0.75), (9, 1.0)):
        schedule(SimpleNamespace(state=SimpleNamespace(epoch=epoch)))
        assert getattr(loss, name) == value
    assert not loss.state_dict()


def test_a_scheduled_value_counts_and_is_checked():
    samples, target, weights = inputs()
    loss = OptimalTransportLoss("ce", gamma=1.0, ignore_index=IGNORE)
    loss.gamma = 0.2
    expected = OptimalTransportLoss("ce", gamma=0.2, ignore_index=IGNORE)(samples, target, weights)
    torch.testing.assert_close(loss(samples, target, weights), expected, rtol=0, atol=0)
    loss.gamma = 0.1
    with pytest.raises(ValueError, match=r"gamma must lie between 1/N = 0\.16.* and 1, got 0\.1"):
        loss(samples, target, weights)
    loss.gamma, loss.rater_weighting = 1.0, 1.5
    with pytest.raises(ValueError, match="rater_weighting must lie in"):
        loss(samples, target, weights)


@pytest.mark.parametrize("cost", ["iou", "ce"])
def test_it_learns_the_raters_and_their_weights(cost):
    torch.manual_seed(0)
    logits = (0.1 * torch.randn(1, 4, 2, 6, 6)).requires_grad_()
    gate = torch.zeros(1, 4, requires_grad=True)
    target = torch.zeros(1, 2, 6, 6)
    target[0, 0, :3] = target[0, 1, 2:] = 1
    optimizer = torch.optim.Adam([logits, gate], lr=0.3)
    loss = OptimalTransportLoss(cost, gamma=0.5)
    for step in range(80):
        loss.gamma = 0.5 if step < 20 else 1.0
        optimizer.zero_grad()
        loss(ExpertSamples(logits, gate.softmax(1), 4), target, torch.tensor([[0.75, 0.25]])).backward()
        optimizer.step()
    equal = (logits.argmax(2)[:, :, None] == target[:, None]).flatten(3).all(3)[0]  # [N, M]
    torch.testing.assert_close(gate.softmax(1) @ equal.float(), torch.tensor([[0.75, 0.25]]), rtol=0, atol=0.03)


def test_reductions_and_metadata():
    samples, target, weights = inputs()
    values = {
        r: OptimalTransportLoss("ce", ignore_index=IGNORE, reduction=r)(samples, target, weights)
        for r in ("none", "sum", "mean")
    }
    assert values["none"].shape == (BATCH,)
    torch.testing.assert_close(values["none"].sum(), values["sum"])
    torch.testing.assert_close(values["none"].mean(), values["mean"])
    meta = OptimalTransportLoss("ce", ignore_index=IGNORE)(
        ExpertSamples(MetaTensor(samples.logits), MetaTensor(samples.weights), EXPERTS),
        MetaTensor(target),
        MetaTensor(weights),
    )
    torch.testing.assert_close(meta, values["mean"], rtol=0, atol=0)
    assert type(meta) is torch.Tensor


@pytest.mark.parametrize("cost", ["iou", "ce"])
@pytest.mark.parametrize("share_threshold", [None, 0.5])
def test_half_precision_is_computed_in_float32(cost, share_threshold):
    samples, target, weights = inputs((8, 8))
    half = ExpertSamples(samples.logits.bfloat16(), samples.weights.float(), EXPERTS)
    full = half._replace(logits=half.logits.float())
    loss = OptimalTransportLoss(cost, gamma=0.4, share_threshold=share_threshold, ignore_index=IGNORE)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(half, target, weights)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, loss(full, target, weights), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"cost": "dice"}, ValueError, "dice"),
        ({"cost": 3}, TypeError, "cost must be text or callable, got 3"),
        ({"beta": -1.0}, ValueError, "beta must not be negative, got -1.0"),
        ({"gamma": 0.0}, ValueError, "gamma must lie between 1/N and 1, got 0.0"),
        ({"gamma": 1.1}, ValueError, "gamma must lie between 1/N and 1, got 1.1"),
        ({"solver": "sinkhorn"}, ValueError, "sinkhorn"),
        ({"rater_weighting": -0.1}, ValueError, r"rater_weighting must lie in \[0, 1\], got -0.1"),
        ({"share_threshold": 0.0}, ValueError, "share_threshold must be positive or None, got 0.0"),
        ({"reduction": "median"}, ValueError, "median"),
    ],
)
def test_rejects_options(options, error, message):
    with pytest.raises(error, match=message):
        OptimalTransportLoss(**options)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda s, y, v: (tuple(s), y, v), TypeError, "ExpertSamples.logits, weights, num_experts., got tuple"),
        (lambda s, y, v: (s._replace(num_experts=0), y, v), ValueError, "at least 1 and divide the 6 samples, got 0"),
        (lambda s, y, v: (s._replace(num_experts=4), y, v), ValueError, "divide the 6 samples, got 4"),
        (lambda s, y, v: (s._replace(logits=s.logits[0, 0]), y, v), ValueError, r"logits must be \[B, N, C, \*S\]"),
        (lambda s, y, v: (s._replace(logits=s.logits[:, :, :1]), y, v), ValueError, "C of at least 2"),
        (
            lambda s, y, v: (s._replace(weights=s.weights[:, 1:]), y, v),
            ValueError,
            r"of logits, \(3, 6\), got \(3, 5\)",
        ),
        (
            lambda s, y, v: (s._replace(weights=2 * s.weights), y, v),
            ValueError,
            "weights must not be negative and sum to 1",
        ),
        (lambda s, y, v: (s._replace(weights=s.weights - 1 / 6), y, v), ValueError, "weights must not be negative"),
        (
            lambda s, y, v: (s, y[..., 1:], v),
            ValueError,
            r"target must be \[B, raters, \*S\], .* for a sample in logits",
        ),
        (lambda s, y, v: (s, y - 1, v), ValueError, "label -1, outside the 3 classes"),
        (lambda s, y, v: (s, y, v[:, 1:]), ValueError, r"rater_weights must be \[3, 4\], .* got the shape \(3, 3\)"),
        (lambda s, y, v: (s, y, 0 * v), ValueError, "non-negative, with a positive sum"),
    ],
)
def test_rejects_inputs(change, error, message):
    with pytest.raises(error, match=message):
        OptimalTransportLoss(ignore_index=IGNORE)(*change(*inputs()))


def test_rejects_a_cost_of_another_shape():
    loss = OptimalTransportLoss(lambda logits, labels, valid: logits.sum(), ignore_index=IGNORE)
    with pytest.raises(ValueError, match=r"cost must give \[B, N, M\] = \(3, 6, 4\), got \(\)"):
        loss(*inputs())


@pytest.mark.parametrize("cost", ["iou", "ce"])
def test_a_non_finite_value_is_named(cost):
    samples, target, weights = inputs()
    loss = OptimalTransportLoss(cost, ignore_index=IGNORE)
    logits, u = (x.detach().clone() for x in samples[:2])
    logits[1, 2, 0, 3, 3] = torch.nan
    with pytest.raises(FloatingPointError, match=r"cost of sample and rater of batch item 1, index \(2, 0\) is nan"):
        loss(samples._replace(logits=logits), target, weights)
    u[2, 1] = torch.nan
    with pytest.raises(FloatingPointError, match=r"the weight of batch item 2, index \(1,\) is nan"):
        loss(samples._replace(weights=u), target, weights)
