# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence

import ignite.distributed as idist
import torch
from monai.utils import LossReduction
from torch.nn import functional as F
from torch.nn.modules.loss import _Loss

from monai_stochseg.distributions import LatentOutput, full_precision
from monai_stochseg.distributions.arguments import (
    check_arguments,
    check_at_least,
    check_fields,
    check_fraction,
    check_option,
    check_positive,
    check_same_shape,
    reads_values,
)
from monai_stochseg.distributions.noise import draw_uniform
from monai_stochseg.losses.raters import drawn_labels

# The constraint's multiplier stays between exp(-10) and exp(10).
_LOG_MULTIPLIER_BOUND = 10.0


class ELBOLoss(_Loss):
    """
    Negative evidence lower bound of a network with a latent (Kohl et al. 2018, https://arxiv.org/abs/1806.05034,
    equation 4): cross entropy of the logits of a latent from the posterior, plus beta times the divergence of the
    posterior from the prior, KL(Q || P), summed over the latent's dimensions, and over the levels of a network that has
    several latents. Where the output has ``partial`` logits (deep supervision), the cross entropy of each of them is
    added.

    Computed in float32 or better under autocast too. ``beta`` is an attribute that a schedule may set.

    With ``target_reconstruction`` the loss is that of GECO (Rezende and Viola 2018, https://arxiv.org/abs/1810.00597):
    ``lambda * (reconstruction - target) + beta * KL``. Each step in training mode multiplies lambda by
    ``exp(multiplier_rate * v)``, v being the moving average over steps, and over processes, of the relative violation
    ``reconstruction / target - 1`` cut to [-1, 1]. lambda and v are buffers: save the loss with the network.

    With ``top_k`` the reconstruction is that of the hierarchical network's paper (Kohl et al. 2019,
    https://arxiv.org/abs/1905.13077): of all voxels of the batch only a share counts, drawn without replacement in
    proportion to their cross entropy, so that the worst are the likeliest.

    Args:
        beta: weight of the divergence.
        reconstruction: ``"sum"`` of the cross entropy over voxels, which the bound asks for and the paper takes, or
            their ``"mean"``, which multiplies the weight of the divergence by the number of voxels.
        ignore_index: label of void voxels, which are left out.
        target_reconstruction: cross entropy per item to aim at, in the units of ``reconstruction``. Default: none, the
            plain bound.
        multiplier_rate: change of log lambda per step at a relative violation of 1.
        momentum: weight of the past in the moving average.
        top_k: share of the batch's voxels that count, in (0, 1]. Default: all.
        top_k_sampled: False takes the worst voxels themselves and draws nothing.
        target_per_voxel: True: ``target_reconstruction`` is for each voxel that counts, and is multiplied by their
            number; for ``reconstruction="sum"``.
        level_weights: weights of the levels' divergences, in the order of the output's levels. Default: 1 each.
        reduction: ``"mean"`` over the batch, ``"sum"`` or ``"none"``.

    Raises:
        ValueError: for a negative beta or level weight, a target or rate that is not positive, a momentum outside
            [0, 1), a top_k outside (0, 1], a target for each voxel where there is none or voxels are averaged, or an
            unknown option.

    Example::

        >>> from monai_stochseg.distributions import Gaussian, LatentLevel, LatentOutput
        >>> zero = torch.zeros(1, 1)
        >>> level = LatentLevel(posterior=Gaussian(zero + 1, zero), prior=Gaussian(zero, zero))  # KL of 1/2
        >>> output = LatentOutput(torch.zeros(1, 2, 1, 2), (level,), rater=torch.tensor([0]))
        >>> ELBOLoss(beta=2.0)(output, torch.tensor([[[[0, 1]]]]))  # 2 log 2 + 2 / 2
        tensor(2.3863)
    """

    log_multiplier: torch.Tensor
    violation: torch.Tensor

    @check_arguments
    def __init__(
        self,
        beta: float = 1.0,
        reconstruction: str = "sum",
        ignore_index: int | None = None,
        target_reconstruction: float | None = None,
        multiplier_rate: float = 0.01,
        momentum: float = 0.99,
        top_k: float | None = None,
        top_k_sampled: bool = True,
        target_per_voxel: bool = False,
        level_weights: Sequence[float] | None = None,
        reduction: LossReduction | str = LossReduction.MEAN,
    ) -> None:
        super().__init__(reduction=check_option("reduction", reduction, LossReduction).value)
        check_at_least(0, beta=beta)
        check_positive(multiplier_rate=multiplier_rate)
        if target_reconstruction is not None:
            check_positive(target_reconstruction=target_reconstruction)
        check_fraction(momentum=momentum)
        if top_k is not None and not 0 < top_k <= 1:
            raise ValueError(f"top_k must lie in (0, 1], got {top_k}.")
        if target_per_voxel and (target_reconstruction is None or reconstruction != "sum"):
            raise ValueError(
                "target_per_voxel=True needs a target_reconstruction, and reconstruction 'sum', got "
                f"{target_reconstruction} and {reconstruction!r}."
            )
        self.top_k = top_k
        self.top_k_sampled = top_k_sampled
        self.target_per_voxel = target_per_voxel
        if level_weights is not None and len(level_weights) == 0:
            raise ValueError("level_weights must hold one value for each level, got none.")
        for i, weight in enumerate(level_weights or ()):
            check_at_least(0, **{f"level_weights[{i}]": weight})
        self.level_weights = None if level_weights is None else [float(weight) for weight in level_weights]
        self.beta = beta
        self.reconstruction = check_option("reconstruction", reconstruction, ("sum", "mean"))
        self.ignore_index = ignore_index
        self.target_reconstruction = target_reconstruction
        self.multiplier_rate = multiplier_rate
        self.momentum = momentum
        if target_reconstruction is not None:
            self.register_buffer("log_multiplier", torch.zeros(()))
            self.register_buffer("violation", torch.zeros(()))

    @check_arguments
    def forward(
        self,
        input: LatentOutput,
        target: torch.Tensor,
        rater_weights: torch.Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> torch.Tensor:
        """
        Args:
            input: output of a network with a latent such as :py:class:`monai_stochseg.networks.nets.ProbabilisticUNet`:
                logits ``[B, C, *S]``; one level for each latent, its posterior and its prior; and the rater ``[B]``
                whose label the posterior has seen.
            target: integer labels of the raters, ``[B, raters, *S]``, the same that the network got.
            rater_weights: ``[B, raters]``, the same that the network got. The network drew the rater by them, so the
                loss does not weigh again. A missing rater has weight 0.
            generator: source of the draw of voxels; the default is PyTorch's global one.

        Raises:
            TypeError: when ``input`` is not a LatentOutput.
            ValueError: when shapes do not fit, a label is outside the classes, there is no level, or the network drew a
                missing rater.
            FloatingPointError: when a term is not finite; names it.
        """
        check_fields(input)
        logits, levels, rater, partial = input
        if not levels:
            raise ValueError("input must have at least one level, a posterior and a prior, got none.")
        if any(part.shape != logits.shape for part in partial):
            shapes = [tuple(part.shape) for part in partial]
            raise ValueError(f"partial must have the shape of logits, {tuple(logits.shape)}, got {shapes}.")
        weights = self.level_weights or [1.0] * len(levels)
        if len(weights) != len(levels):
            raise ValueError(f"level_weights must hold one value for each of {len(levels)} levels, got {weights}.")
        labels, valid = drawn_labels(logits, target, rater, rater_weights, self.ignore_index)
        with torch.autocast(logits.device.type, enabled=False):
            terms = [
                weight * gaussian_kl(*posterior, *prior).flatten(1).sum(1)
                for weight, (posterior, prior) in zip(weights, levels, strict=True)
            ]
            divergence = torch.stack(terms).sum(0)
            supervised = [
                self._reconstruction(full_precision(part), labels, valid, generator) for part in (*partial, logits)
            ]
            reconstruction, count = (torch.stack(terms).sum(0) for terms in zip(*supervised, strict=True))
        if self.target_reconstruction is None:
            item = reconstruction + self.beta * divergence
        else:
            aim = self.target_reconstruction * (count if self.target_per_voxel else torch.ones_like(reconstruction))
            item = self.log_multiplier.exp() * (reconstruction - aim) + self.beta * divergence
        if reads_values() and not torch.isfinite(item).all():
            sums = {"reconstruction": reconstruction, "divergence": divergence, "loss": item}
            raise FloatingPointError(_describe(_terms(input) | sums))
        if self.target_reconstruction is not None and self.training:
            # without a voxel that counts there is nothing to violate
            violation = torch.where(aim.mean() > 0, reconstruction.detach().mean() / aim.mean() - 1, 0.0)
            self._update_multiplier(violation)
        if self.reduction == LossReduction.NONE.value:
            return item
        return item.sum() if self.reduction == LossReduction.SUM.value else item.mean()

    def _reconstruction(
        self, logits: torch.Tensor, labels: torch.Tensor, valid: torch.Tensor, generator: torch.Generator | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Cross entropy of each item, ``[B]``, and the number of its voxels that count."""
        voxels = F.cross_entropy(logits, labels, reduction="none")
        if self.top_k is not None:
            valid = worst_voxels(voxels.detach(), valid, self.top_k, self.top_k_sampled, generator)
        total, count = (voxels * valid).flatten(1).sum(1), valid.flatten(1).sum(1).to(voxels)
        return (total if self.reconstruction == "sum" else total / count.clamp(min=1)), count

    @torch.no_grad()
    def _update_multiplier(self, violation: torch.Tensor) -> None:
        if idist.get_world_size() > 1:
            violation = idist.all_reduce(violation) / idist.get_world_size()
        self.violation.lerp_(violation.clamp(-1, 1).to(self.violation), 1 - self.momentum)
        self.log_multiplier.add_(self.violation, alpha=self.multiplier_rate)
        self.log_multiplier.clamp_(-_LOG_MULTIPLIER_BOUND, _LOG_MULTIPLIER_BOUND)


def worst_voxels(
    values: torch.Tensor, valid: torch.Tensor, share: float, sampled: bool, generator: torch.Generator | None = None
) -> torch.Tensor:
    """
    Which voxels of a batch count, ``[B, *S]``: a share of the valid ones, at least one, those of the largest values.

    Args:
        values: non-negative, ``[B, *S]``.
        valid: ``[B, *S]``.
        share: of the valid voxels.
        sampled: voxels are drawn without replacement in proportion to their values, by Gumbel noise on their logs.
        generator: source of the noise.
    """
    score = values.double().log() if sampled else values.double()
    if sampled:  # an exponential number's log is a Gumbel number with its sign turned
        noise = draw_uniform(tuple(score.shape), score, generator)
        score = score - (-torch.log1p(-noise)).log()
    score = torch.where(valid & ~score.isnan(), score, -torch.inf).flatten()
    return _largest(score, share, valid) & valid


@torch.library.custom_op("monai_stochseg::largest", mutates_args=())
def _largest(score: torch.Tensor, share: float, valid: torch.Tensor) -> torch.Tensor:
    """Where a score ``[V]`` is among the largest, their number a share of the valid voxels and at least one."""
    number = max(1, int(share * int(valid.sum())))
    chosen = torch.zeros_like(valid, memory_format=torch.contiguous_format)
    chosen.view(-1)[score.topk(number).indices] = True
    return chosen


@_largest.register_fake
def _(score: torch.Tensor, share: float, valid: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(valid, memory_format=torch.contiguous_format)


@check_arguments
def gaussian_kl(
    posterior_mean: torch.Tensor,
    posterior_log_std: torch.Tensor,
    prior_mean: torch.Tensor,
    prior_log_std: torch.Tensor,
) -> torch.Tensor:
    """
    Divergence KL(posterior || prior) of axis-aligned normals in closed form, in float32 or better.

    Args:
        posterior_mean: ``[B, L, ...]``, as the other three.
        posterior_log_std: log of the standard deviation.
        prior_mean: mean of the second normal.
        prior_log_std: log of its standard deviation.

    Returns:
        nats per dimension, ``[B, L, ...]``.

    Raises:
        ValueError: when the shapes differ.
    """
    given = {
        "prior_mean": prior_mean,
        "prior_log_std": prior_log_std,
        "posterior_mean": posterior_mean,
        "posterior_log_std": posterior_log_std,
    }
    check_same_shape(**given)
    terms = [full_precision(x) for x in (posterior_mean, posterior_log_std, prior_mean, prior_log_std)]
    mean_q, log_std_q, mean_p, log_std_p = terms
    log_ratio = log_std_q - log_std_p
    distance = (mean_q - mean_p) * torch.exp(-log_std_p)
    return 0.5 * (torch.exp(2 * log_ratio) + distance.square() - 1) - log_ratio


def _terms(output: LatentOutput) -> dict[str, torch.Tensor]:
    """The output's tensors by name."""
    terms = {"logits": output.logits, **{f"partial[{i}]": part for i, part in enumerate(output.partial)}}
    for i, level in enumerate(output.levels):
        place = "" if len(output.levels) == 1 else f" of level {i}"
        for name, normal in level._asdict().items():
            terms |= {f"{name}_mean{place}": normal.mean, f"{name}_log_std{place}": normal.log_std}
    return terms


def _describe(terms: dict[str, torch.Tensor]) -> str:
    """The first term that is not finite."""
    name, term = next((name, term) for name, term in terms.items() if not torch.isfinite(term).all())
    first = tuple((~torch.isfinite(term)).nonzero()[0].tolist())
    return f"ELBOLoss: the {name} of batch item {first[0]} is {float(term[first].detach())}."
