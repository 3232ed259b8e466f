# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from itertools import product

import numpy as np
import ot
import pytest
import torch
from scipy.optimize import linprog

from monai_stochseg.losses.optimal_transport import solve_coupling


def costs(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def masses(batch: int, raters: int, seed: int = 1) -> torch.Tensor:
    """Unequal weights, the last rater of the first item missing."""
    v = costs(batch, raters, seed=seed) + 0.1
    v[0, -1] = 0
    return v / v.sum(1, keepdim=True)


def brute_force(cost: torch.Tensor, per_sample: int) -> float:
    """Raters of equal mass, as many of them to a sample as it takes: every way there is."""
    num_samples, raters = cost.shape
    ways = (way for way in product(range(num_samples), repeat=raters) if max(map(way.count, way)) <= per_sample)
    return min(float(cost[list(way), range(raters)].mean()) for way in ways)


def linear_program(cost: torch.Tensor, v: torch.Tensor, gamma: float) -> float:
    num_samples, raters = cost.shape
    rater_sums = np.tile(np.eye(raters), num_samples)
    sample_sums = np.repeat(np.eye(num_samples), raters, axis=1)
    return linprog(cost.flatten(), sample_sums, np.full(num_samples, gamma), rater_sums, v).fun


def total(plan: torch.Tensor, cost: torch.Tensor) -> torch.Tensor:
    return (plan * cost).sum((1, 2))


@pytest.mark.parametrize("gamma", [1.0, 1])
@pytest.mark.parametrize("solver", ["greedy", "exact"])
def test_at_gamma_1_all_mass_goes_to_the_nearest_sample(solver, gamma):
    cost, v = costs(4, 5, 3), masses(4, 3)
    plan = solve_coupling(cost, v, gamma, solver)
    nearest = torch.nn.functional.one_hot(cost.argmin(1), 5).transpose(1, 2)
    torch.testing.assert_close(plan, nearest * v[:, None])


def test_a_case_where_greedy_is_not_the_optimum():
    """Rater 0 is served first and takes sample 0, which leaves rater 1 the dear one; the optimum crosses them."""
    cost = torch.tensor([[[0.0, 0.1], [0.1, 1.0]]])
    v = torch.full((1, 2), 0.5)
    torch.testing.assert_close(solve_coupling(cost, v, 0.5), torch.eye(2)[None] / 2)
    torch.testing.assert_close(solve_coupling(cost, v, 0.5, "exact"), 0.5 - torch.eye(2)[None] / 2)


def test_greedy_splits_a_rater_and_serves_the_closest_first():
    """
    Rater 1 is closest to a sample and fills sample 0 up to 0.4, then puts 0.2 of its 0.6 on sample 2. Rater 0, of 0.4,
    finds sample 0 full, puts what sample 2 still takes there, 0.2, and the rest on sample 1.
    """
    cost = torch.tensor([[[0.2, 0.1], [0.9, 0.8], [0.3, 0.2]]])
    plan = solve_coupling(cost, torch.tensor([[0.4, 0.6]]), 0.4)
    torch.testing.assert_close(plan, torch.tensor([[[0.0, 0.4], [0.2, 0.0], [0.2, 0.2]]]))


def greedy_by_hand(cost: torch.Tensor, v: torch.Tensor, gamma: float) -> torch.Tensor:
    """The rule for one item in words: each rater in turn fills its samples in turn."""
    plan, free = torch.zeros_like(cost), [gamma] * len(cost)
    for rater in sorted(range(len(v)), key=lambda j: float(cost[:, j].min())):
        left = float(v[rater])
        for sample in sorted(range(len(cost)), key=lambda i: float(cost[i, rater])):
            plan[sample, rater] = taken = min(left, free[sample])
            left, free[sample] = left - taken, free[sample] - taken
    return plan


@pytest.mark.parametrize("shape", [(6, 5, 4), (6, 3, 7), (3, 1, 2), (3, 4, 1)])
@pytest.mark.parametrize("ties", [False, True])
def test_greedy_equals_the_rule_in_loops(shape, ties):
    cost, v = costs(*shape), masses(shape[0], shape[2]) if shape[2] > 1 else torch.ones(shape[0], 1)
    cost = (3 * cost).round() if ties else cost
    for gamma in (1 / shape[1], min(1, 1.3 / shape[1]), 1.0):
        expected = torch.stack([greedy_by_hand(c, w, gamma) for c, w in zip(cost, v, strict=True)])
        torch.testing.assert_close(solve_coupling(cost, v, gamma), expected)


def test_exact_equals_brute_force_and_greedy_is_not_better():
    differ = 0
    for seed, (num_samples, raters, per_sample) in enumerate(
        [(3, 3, 1), (4, 3, 2), (3, 4, 2), (4, 4, 1), (5, 4, 3)] * 2
    ):
        cost = costs(3, num_samples, raters, seed=seed)
        v = torch.full((3, raters), 1 / raters, dtype=torch.float64)
        exact = total(solve_coupling(cost, v, per_sample / raters, "exact"), cost)
        greedy = total(solve_coupling(cost, v, per_sample / raters), cost)
        expected = [brute_force(item, per_sample) for item in cost]
        torch.testing.assert_close(exact, torch.tensor(expected, dtype=torch.float64))
        assert (greedy >= exact - 1e-12).all()
        differ += int((greedy > exact + 1e-9).sum())
    assert differ > 0


@pytest.mark.parametrize("gamma", [0.2, 0.25, 0.37, 0.8])
@pytest.mark.parametrize("solver", ["greedy", "exact"])
def test_unequal_raters_and_constraints(gamma, solver):
    cost, v = costs(6, 5, 4), masses(6, 4)
    plan = solve_coupling(cost, v, gamma, solver)
    assert (plan >= 0).all()
    torch.testing.assert_close(plan.sum(1), v)
    assert (plan.sum(2) <= gamma + 1e-12).all()
    assert (plan[0, :, -1] == 0).all()
    optimum = torch.tensor([linear_program(c, w, gamma) for c, w in zip(cost, v, strict=True)], dtype=torch.float64)
    if solver == "exact":
        torch.testing.assert_close(total(plan, cost), optimum)
    assert (total(plan, cost) >= optimum - 1e-9).all()


@pytest.mark.parametrize("solver", ["greedy", "exact"])
def test_items_do_not_see_each_other(solver):
    cost, v = costs(4, 6, 5).float(), masses(4, 5).float()
    plan = solve_coupling(cost, v, 0.3, solver)
    assert plan.dtype == torch.float32
    alone = [solve_coupling(cost[i : i + 1], v[i : i + 1], 0.3, solver) for i in range(4)]
    torch.testing.assert_close(plan, torch.cat(alone), rtol=0, atol=0)


def test_no_gradient_and_no_rounding_left_over():
    cost = costs(2, 70, 32).requires_grad_()
    plan = solve_coupling(cost, torch.full((2, 32), 1 / 32), 1 / 32)
    assert not plan.requires_grad
    assert ((plan > 0).sum(1) == 1).all()


@pytest.mark.parametrize("num_samples", [3, 7, 70])
@pytest.mark.parametrize("solver", ["greedy", "exact", "pairwise"])
def test_gamma_of_one_over_n_fills_every_sample(num_samples, solver):
    plan = solve_coupling(costs(2, num_samples, 4), masses(2, 4), 1 / num_samples, solver)
    torch.testing.assert_close(plan.sum(2), torch.full((2, num_samples), 1 / num_samples, dtype=torch.float64))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((costs(2, 4, 3), masses(2, 3), 0.24), r"gamma must lie between 1/N = 0.25 and 1, got 0.24: 4 samples"),
        ((costs(2, 4, 3), masses(2, 3), 1.5), "and 1, got 1.5"),
        ((costs(2, 4, 3), masses(2, 3), float("nan")), "gamma must be a finite number, got nan"),
        ((costs(2, 4, 3), torch.ones(2, 3) / 2, 1.0), r"got sums \[1.5, 1.5\]: raters that bring more mass than 1"),
        ((costs(2, 4, 3), torch.ones(2, 3) / 4, 1.0), r"sum to 1 over the raters of each item, got sums \[0.75"),
        ((costs(1, 4, 2), torch.tensor([[1.5, -0.5]]), 1.0), "v must be non-negative"),
        ((costs(1, 4, 2), torch.tensor([[torch.nan, 0.5]]), 1.0), "v must be non-negative"),
        ((costs(2, 4, 3), masses(2, 4), 1.0), r"cost must be \[B, N, M\] and v \[B, M\].*got \(2, 4, 3\) and \(2, 4\)"),
        ((costs(2, 4, 0), torch.ones(2, 0), 1.0), "none of the axes empty"),
        ((costs(2, 4, 3) / 0, masses(2, 3), 1.0), "cost must be finite, got inf"),
        ((costs(2, 4, 3), masses(2, 3), 1.0, "sinkhorn"), "sinkhorn"),
    ],
)
def test_rejects(arguments, message):
    with pytest.raises(ValueError, match=message):
        solve_coupling(*arguments)


def test_a_failure_of_pot_is_an_error(monkeypatch):
    monkeypatch.setattr(ot, "emd", lambda *args, **kwargs: (np.zeros((3, 3)), {"warning": "no luck"}))
    with pytest.raises(RuntimeError, match="no coupling of batch item 0: no luck"):
        solve_coupling(costs(1, 3, 2), torch.full((1, 2), 0.5), 0.5, "exact")


def test_pairwise_is_blind_to_the_cost():
    """Every sample takes the same share of every rater, and none of one who is missing."""
    plan = solve_coupling(
        torch.tensor([[[0.0, 9.0, 1.0], [5.0, 0.0, 2.0]]]), torch.tensor([[0.5, 0.0, 0.5]]), 1.0, "pairwise"
    )
    assert plan.tolist() == [[[0.25, 0.0, 0.25], [0.25, 0.0, 0.25]]]
