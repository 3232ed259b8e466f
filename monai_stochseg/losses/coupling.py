# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from monai_stochseg.distributions.arguments import check_arguments, check_option, reads_values

__all__ = ["solve_coupling"]

SOLVERS = ("greedy", "exact", "pairwise")
_TOLERANCE = 1e-4
# Mass of a sample, of 1 in all, that is rounding.
_NO_MASS = 1e-12


@check_arguments
@torch.no_grad()
def solve_coupling(cost: torch.Tensor, v: torch.Tensor, gamma: float, solver: str = "greedy") -> torch.Tensor:
    """
    Transport the mass of every rater to the samples, each of which takes at most gamma (Gao et al. 2023,
    https://arxiv.org/abs/2212.07328): ``min <P, C>`` under ``P >= 0``, ``P^T 1 = v``, ``P 1 <= gamma``.

    With gamma of 1 all mass of a rater goes to its nearest sample. Otherwise ``"greedy"`` is the rule of the paper's
    appendix A.1, for all items at once: raters by ascending cost of their nearest sample, each filling its samples by
    ascending cost. ``"exact"`` is the optimum: with one more rater of mass ``N gamma - 1`` at no cost this is an
    ordinary transport problem, which POT's network simplex solves on the CPU, one item after the other. ``"pairwise"``
    is the control without transport: whatever the cost, all samples take the same share of every rater, so that each
    of them learns from all raters.

    Args:
        cost: of every sample and rater, ``[B, N, M]``.
        v: masses of the raters, ``[B, M]``, non-negative, each row summing to 1; a missing rater has 0.
        gamma: capacity of a sample, from 1/N to 1.
        solver: ``"greedy"``, ``"exact"`` or ``"pairwise"``.

    Returns:
        P, ``[B, N, M]`` in the type of ``cost``, without gradient.

    Raises:
        ValueError: when the shapes do not fit, the cost is not finite, v holds no masses that sum to 1, gamma is
            outside its bounds, or for an unknown solver.
        RuntimeError: when POT does not converge.
    """
    check_option("solver", solver, SOLVERS)
    if cost.dim() != 3 or 0 in cost.shape or v.shape != (cost.shape[0], cost.shape[2]):
        raise ValueError(
            f"cost must be [B, N, M] and v [B, M], none of the axes empty, got {tuple(cost.shape)} and "
            f"{tuple(v.shape)}."
        )
    if reads_values() and not cost.isfinite().all():
        raise ValueError(f"cost must be finite, got {float(cost[~cost.isfinite()][0])}.")
    num_samples = cost.shape[1]
    if not 1 / num_samples - _NO_MASS <= gamma <= 1:
        raise ValueError(
            f"gamma must lie between 1/N = {1 / num_samples:g} and 1, got {gamma}: {num_samples} samples that take "
            f"gamma each must take all mass."
        )
    masses = v.to(cost.device, torch.float64)
    total = masses.sum(1)
    tolerance = max(_TOLERANCE, torch.finfo(v.dtype).eps if v.is_floating_point() else 0)
    right = (masses.isfinite() & (masses >= 0)).all() & ((total - 1).abs() <= tolerance).all()
    if reads_values() and not right:
        raise ValueError(
            f"v must be non-negative and sum to 1 over the raters of each item, got sums {total.tolist()}: raters "
            "that bring more mass than 1, or less, have no coupling; divide by the sum."
        )
    masses = masses / total[:, None]
    solvers: dict[str, Callable[..., torch.Tensor]] = {"greedy": _greedy, "exact": _exact, "pairwise": _pairwise}
    coupling = solvers[solver](cost.double(), masses, gamma)
    return coupling.where(coupling > _NO_MASS, 0).to(cost.dtype)


def _greedy(cost: torch.Tensor, v: torch.Tensor, gamma: float) -> torch.Tensor:
    """All items at once; one step brings the mass of one rater of every item."""
    nearest, samples = cost.sort(dim=1, stable=True)
    raters = nearest[:, 0].argsort(dim=1, stable=True)
    coupling = torch.zeros_like(cost)
    capacity = torch.full_like(cost[..., 0], gamma)
    items = torch.arange(len(cost), device=cost.device)
    for rater in raters.T:
        order = samples[items, :, rater]
        free = capacity.gather(1, order)
        # what is left of the mass when it comes to a sample, by what the samples before it take
        left = v[items, rater, None] - (free.cumsum(1) - free)
        taken = torch.zeros_like(capacity).scatter_(1, order, torch.minimum(left.clamp(min=0), free))
        coupling[items, :, rater] = taken
        capacity = (capacity - taken).clamp(min=0)
    return coupling


def _pairwise(cost: torch.Tensor, v: torch.Tensor, gamma: float) -> torch.Tensor:
    return (v / cost.shape[1])[:, None].expand_as(cost)


@torch.library.custom_op("monai_stochseg::exact_coupling", mutates_args=())
def _exact(cost: torch.Tensor, v: torch.Tensor, gamma: float) -> torch.Tensor:
    import ot  # takes most of a second, for this solver alone

    num_samples = cost.shape[1]
    capacity = np.full(num_samples, gamma, dtype=float)  # of integers POT would round the plan
    spare = max(num_samples * gamma - 1, 0.0)
    plans = []
    for item, (costs, masses) in enumerate(zip(cost.cpu().numpy(), v.cpu().numpy(), strict=True)):
        plan, log = ot.emd(
            capacity, np.append(masses, spare), np.pad(costs, ((0, 0), (0, 1))), numItermax=10**6, log=True
        )
        if log["warning"] is not None:
            raise RuntimeError(f"POT found no coupling of batch item {item}: {log['warning']}")
        plans.append(plan[:, :-1])
    return torch.from_numpy(np.stack(plans)).to(cost.device)


@_exact.register_fake
def _(cost: torch.Tensor, v: torch.Tensor, gamma: float) -> torch.Tensor:
    return torch.empty_like(cost, memory_format=torch.contiguous_format)
