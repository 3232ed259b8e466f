# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable

import torch
from monai.utils import LossReduction
from torch.nn.modules.loss import _Loss

from monai_stochseg.distributions import ExpertSamples, check_labels, check_weights, full_precision
from monai_stochseg.distributions.arguments import check_arguments, check_fields, check_option, reads_values
from monai_stochseg.distributions.base import plain
from monai_stochseg.distributions.weights import check_probabilities
from monai_stochseg.losses.coupling import SOLVERS, solve_coupling
from monai_stochseg.losses.expert_groups import expert_groups
from monai_stochseg.losses.raters import check_target
from monai_stochseg.losses.sample_costs import cross_entropy_cost, iou_cost

__all__ = ["OptimalTransportLoss", "solve_coupling"]

_COSTS = {"iou": iou_cost, "ce": cross_entropy_cost}


class OptimalTransportLoss(_Loss):
    """
    Transport of the raters' labels to weighted samples (Gao et al. 2023, https://arxiv.org/abs/2212.07328):

        sum_ij P*_ij c(s_i, y_j) + beta KL(sum_j P*_ij || u_i)

    The coupling P* minimises ``<P, C>`` under ``P >= 0``, ``P^T 1 = v``, ``P 1 <= gamma``, see
    :py:func:`solve_coupling`; no gradient passes through it. The first term trains the samples s_i, the divergence
    their weights u_i. The divergence is summed over the samples and averaged over the batch. The authors' code averages
    over the samples as well, so its beta of 1 is a beta of 1/N here; under the soft gradient it averages over the K
    experts, so that its beta of 1 is a beta of 1/K.

    Computed in float32 or better under autocast too. The named costs need little memory beside the gradient of the
    logits, and spend no time on the gradient of samples without mass.

    ``beta``, ``gamma``, ``rater_weighting`` and ``share_threshold`` are attributes that a
    :py:class:`monai_stochseg.handlers.LossSchedule` may set.

    Args:
        cost: ``"iou"`` (:py:func:`iou_cost`), ``"ce"`` (:py:func:`cross_entropy_cost`), or a function of logits
            ``[B, N, C, *S]``, labels ``[B, M, *S]`` with void voxels as 0, and a mask of the voxels that are not void,
            ``[B, M, *S]``, that gives ``[B, N, M]``.
        beta: weight of the divergence.
        gamma: capacity of a sample, from 1/N to 1. The paper raises it to 1, from 1/2 (LIDC) or 1/32 (Cityscapes).
        solver: ``"greedy"``, ``"exact"`` or ``"pairwise"``, see :py:func:`solve_coupling`.
        rater_weighting: t in [0, 1], from uniform weights to the raters' own: ``v = (1 - t) uniform + t own``. A
            missing rater has weight 0 in both.
        share_threshold: G of the paper's soft gradient. Experts whose mean samples overlap by at least G, see
            ``expert_groups``, are one to the divergence, which then sums over their groups the masses and the
            weights: all of a group receive one gradient of their weights, the mean (weighted by u) of those that each
            would have had. Default: off. Any G above 1 is off as well; a schedule may start there.
        ignore_index: label of void voxels.
        reduction: ``"mean"`` over the batch, ``"sum"`` or ``"none"``.

    Raises:
        TypeError: when ``cost`` is neither a name nor callable.
        ValueError: for a negative beta, an option outside its bounds, or an unknown name.

    Example::

        >>> from monai_stochseg.distributions import ExpertSamples
        >>> logits = torch.zeros(1, 2, 2, 1, 2)
        >>> logits[0, 0, 1], logits[0, 1, 1] = -9.0, 9.0  # the first sample is background, the second is not
        >>> samples = ExpertSamples(logits, torch.tensor([[0.5, 0.5]]), num_experts=2)
        >>> raters = torch.tensor([[[[0, 0]], [[1, 1]]]])
        >>> OptimalTransportLoss(cost="ce")(samples, raters)  # each rater has a sample, and half of the mass
        tensor(0.0001)
        >>> OptimalTransportLoss(cost="ce")(samples, raters, rater_weights=torch.tensor([[1.0, 0.0]]))  # log 2
        tensor(0.6933)
    """

    @check_arguments
    def __init__(
        self,
        cost: str | Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor] = "iou",
        beta: float = 1.0,
        gamma: float = 1.0,
        solver: str = "greedy",
        rater_weighting: float = 1.0,
        share_threshold: float | None = None,
        ignore_index: int | None = None,
        reduction: LossReduction | str = LossReduction.MEAN,
    ) -> None:
        super().__init__(reduction=check_option("reduction", reduction, LossReduction).value)
        self.cost = _COSTS[check_option("cost", cost, _COSTS.keys())] if isinstance(cost, str) else cost
        self.beta = beta
        self.gamma = gamma
        self.solver = check_option("solver", solver, SOLVERS)
        self.rater_weighting = rater_weighting
        self.share_threshold = share_threshold
        self.ignore_index = ignore_index
        self._check_options()

    @check_arguments
    def forward(
        self, input: ExpertSamples, target: torch.Tensor, rater_weights: torch.Tensor | None = None
    ) -> torch.Tensor:
        """
        Args:
            input: logits of the samples ``[B, N, C, *S]``, their weights u ``[B, N]``, each row summing to 1, and the
                number of experts K; N / K samples of each, those of the first expert first.
            target: integer labels of the raters, ``[B, raters, *S]``.
            rater_weights: ``[B, raters]``, non-negative, each row with a positive sum; a missing rater has weight 0.
                A rater without a valid voxel is missing too. An item without any other rater costs 0.

        Raises:
            TypeError: when ``input`` is not these three.
            ValueError: when shapes do not fit, the weights of the samples do not sum to 1, gamma is below 1/N, a label
                is outside the classes, or a scheduled option is outside its bounds.
            FloatingPointError: when a weight, cost or divergence is not finite; names the item.
        """
        self._check_options()
        logits, u = _check_samples(input)
        target = check_target(target, logits[:, 0], "a sample in logits")
        weights = check_weights(rater_weights, target, maps_name="target").double()
        labels, valid = check_labels(target, logits.shape[2], self.ignore_index, weights=weights)
        # all samples are equally near to void: it would give the first of them its mass
        seen = weights * valid.flatten(2).any(2)
        some = seen.sum(1) > 0
        v = self._masses(seen.where(some[:, None], weights))

        cost = self.cost(logits, labels, valid)
        expected = (*logits.shape[:2], target.shape[1])
        if cost.shape != expected:
            raise ValueError(f"cost must give [B, N, M] = {expected}, got {tuple(cost.shape)}.")
        cost = full_precision(cost)
        _check_finite(cost, "cost of sample and rater")
        coupling = solve_coupling(cost.detach(), v, self.gamma, self.solver)
        divergence = self._divergence(coupling.sum(2), u.to(cost), logits, input.num_experts)
        item = ((coupling * cost).sum((1, 2)) + self.beta * divergence) * some
        if self.reduction == LossReduction.NONE.value:
            return item
        return item.sum() if self.reduction == LossReduction.SUM.value else item.mean()

    def _masses(self, weights: torch.Tensor) -> torch.Tensor:
        """v, between uniform weights of the raters that are there and their own."""
        present = (weights > 0).double()
        uniform, own = (x / x.sum(1, keepdim=True) for x in (present, weights))
        return torch.lerp(uniform, own, self.rater_weighting)

    def _divergence(self, q: torch.Tensor, u: torch.Tensor, logits: torch.Tensor, num_experts: int) -> torch.Tensor:
        """KL(q || u) of every item, over samples or groups of experts."""
        if self.share_threshold is not None and self.share_threshold <= 1:
            groups = expert_groups(logits, num_experts, self.share_threshold)
            groups = groups.repeat_interleave(logits.shape[1] // num_experts, dim=1)
            q, u = (torch.zeros_like(x).scatter_add(1, groups, x) for x in (q, u))
        # without mass no logarithm: that of a weight of 0 would spoil the gradient
        divergence = (torch.xlogy(q, q) - q * u.masked_fill(q == 0, 1).log()).sum(1)
        _check_finite(divergence, "divergence")
        return divergence

    def _check_options(self) -> None:
        if not self.beta >= 0:
            raise ValueError(f"beta must not be negative, got {self.beta}.")
        if not 0 < self.gamma <= 1:
            raise ValueError(f"gamma must lie between 1/N and 1, got {self.gamma}.")
        if not 0 <= self.rater_weighting <= 1:
            raise ValueError(f"rater_weighting must lie in [0, 1], got {self.rater_weighting}.")
        if self.share_threshold is not None and not self.share_threshold > 0:
            raise ValueError(f"share_threshold must be positive or None, got {self.share_threshold}.")


def _check_samples(input: ExpertSamples) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and weights as plain tensors."""
    check_fields(input)
    logits, weights = (plain(x) for x in (input.logits, input.weights))
    if logits.dim() < 5 or logits.shape[2] < 2 or not logits.numel():
        raise ValueError(f"logits must be [B, N, C, *S] with C of at least 2, got {tuple(logits.shape)}.")
    if input.num_experts < 1 or logits.shape[1] % input.num_experts:
        raise ValueError(
            f"num_experts must be at least 1 and divide the {logits.shape[1]} samples, got {input.num_experts}."
        )
    _check_finite(weights, "weight")
    check_probabilities("weights", weights, logits.shape[:2], "[B, N] of logits")
    return logits, weights


def _check_finite(values: torch.Tensor, name: str) -> None:
    values = values.detach()
    if reads_values() and not values.isfinite().all():
        first = tuple((~values.isfinite()).nonzero()[0].tolist())
        place = f", index {first[1:]}" if len(first) > 1 else ""
        raise FloatingPointError(
            f"OptimalTransportLoss: the {name} of batch item {first[0]}{place} is {float(values[first])}: input, or "
            "what the cost makes of it, is not finite."
        )
