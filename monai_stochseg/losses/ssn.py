# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from monai.utils import LossReduction
from torch.autograd.function import once_differentiable
from torch.nn.modules.loss import _Loss

from monai_stochseg.distributions import (
    check_labels,
    check_weights,
    draw_map,
    draw_noise,
    draw_seeds,
    full_precision,
    split_parameters,
)
from monai_stochseg.distributions.arguments import check_arguments, check_at_least, check_num_classes, check_option
from monai_stochseg.losses.raters import check_target

# Elements of the logits drawn at a time: small images are drawn many at once, a volume's samples one by one.
_CHUNK_ELEMENTS = 2**20


class SSNLoss(_Loss):
    """
    Negative Monte-Carlo log-likelihood of a Stochastic Segmentation Network (Monteiro et al. 2020, equation 7, with the
    covariance of equation 5):

        -logsumexp_m( sum_i log p(y_i | eta_i^m) ) + log M,    eta^m ~ N(mean, P P^T + D)

    The sum over voxels is inside the logsumexp: with a mean instead the samples collapse to one. Likelihoods are
    computed and summed in float32 or better under autocast too.

    Args:
        out_channels: number of classes C, the background included.
        rank: number of columns R of the covariance factor.
        num_samples: number of Monte-Carlo samples M.
        antithetic: draw the samples in pairs mean + d, mean - d, which lowers the variance of the estimate. With an odd
            number the last sample has no partner.
        raters: ``"random"`` draws one rater per item and step (the paper, for several raters), ``"mean"`` averages the
            loss over all raters.
        mean_only: train the mean alone, by the sum of its cross entropy: the paper's remedy against a runaway
            covariance. :py:class:`monai_stochseg.handlers.MeanPretraining` sets it for the first epochs.
        ignore_index: label of void voxels, which are left out of the sum.
        reduction: ``"mean"`` over the batch, ``"sum"`` or ``"none"``.

    Raises:
        ValueError: for fewer than 2 classes, rank or num_samples below 1, or an unknown option.

    Example::

        >>> parameters = torch.zeros(1, 2 * (2 + 3), 4, 4)  # mean, log-diagonal and factor of 2 classes at rank 3
        >>> raters = torch.zeros(1, 2, 4, 4)
        >>> raters[:, 1, :2] = 1
        >>> loss = SSNLoss(out_channels=2, rank=3, mean_only=True)(parameters, raters)
        >>> round(loss.item(), 4)  # 16 log 2
        11.0904
    """

    @check_arguments
    def __init__(
        self,
        out_channels: int,
        rank: int = 10,
        num_samples: int = 20,
        antithetic: bool = True,
        raters: str = "random",
        mean_only: bool = False,
        ignore_index: int | None = None,
        reduction: LossReduction | str = LossReduction.MEAN,
    ) -> None:
        super().__init__(reduction=check_option("reduction", reduction, LossReduction).value)
        check_num_classes(out_channels=out_channels)
        check_at_least(1, rank=rank, num_samples=num_samples)
        self.out_channels = out_channels
        self.rank = rank
        self.num_samples = num_samples
        self.antithetic = antithetic
        self.raters = check_option("raters", raters, ("random", "mean"))
        self.mean_only = mean_only
        self.ignore_index = ignore_index

    @check_arguments
    def forward(
        self,
        input: torch.Tensor,
        target: torch.Tensor,
        rater_weights: torch.Tensor | None = None,
        mask: torch.Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> torch.Tensor:
        """
        Args:
            input: the network's parameters ``[B, C * (2 + R), *S]``.
            target: integer labels of the raters, ``[B, raters, *S]``.
            rater_weights: ``[B, raters]``, non-negative, each row with a positive sum; a missing rater has weight 0.
            mask: region ``[B, 1, *S]``; voxels where it is 0 are left out of the sum.
            generator: source of the noise and of the drawn raters; the default is PyTorch's global one.

        Raises:
            ValueError: when shapes do not fit or a label is outside the classes.
            FloatingPointError: when the result is not finite; names the term that is not.
        """
        target, valid, weights = self._check(input, target, rater_weights, mask)
        if self.raters == "random" and target.shape[1] > 1:
            rater = draw_map(weights, generator)[:, None]
            target, valid = (x.gather(1, rater[..., None].expand(-1, -1, x.shape[-1])) for x in (target, valid))
            weights = torch.ones_like(rater, dtype=torch.float32)

        draws = _Draws(self, input, generator)
        log_likelihood = _SampleLogLikelihood.apply(input, target, valid, draws)
        item = math.log(draws.num_samples) - torch.logsumexp(log_likelihood, dim=1)
        item = (item * weights.to(item)).sum(1).to(torch.promote_types(input.dtype, torch.float32))
        if not torch.isfinite(item).all():
            raise FloatingPointError(self._describe(input, item))
        if self.reduction == LossReduction.NONE.value:
            return item
        return item.sum() if self.reduction == LossReduction.SUM.value else item.mean()

    def _check(
        self,
        input: torch.Tensor,
        target: torch.Tensor,
        rater_weights: torch.Tensor | None,
        mask: torch.Tensor | None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Labels ``[B, raters, V]`` with void voxels as 0, which of them count, and the weights of the raters."""
        split_parameters(input, self.out_channels, self.rank, "input")  # raises for another number of channels
        target = check_target(target, input, "input")
        if mask is not None and mask.shape != input[:, :1].shape:
            raise ValueError(
                f"mask must be [B, 1, *S] as {tuple(input[:, :1].shape)}, got {tuple(mask.shape)}: the raters' weights "
                "are the argument rater_weights."
            )
        weights = check_weights(rater_weights, target, maps_name="target")
        labels, valid = check_labels(target.flatten(2), self.out_channels, self.ignore_index, weights=weights)
        if mask is not None:
            valid = valid & (mask.flatten(2) > 0)
        return labels, valid, weights

    def _describe(self, input: torch.Tensor, item: torch.Tensor) -> str:
        mean, log_diag, cov_factor = split_parameters(input.detach(), self.out_channels, self.rank)
        for name, term in (("mean", mean), ("log-diagonal", log_diag), ("covariance factor", cov_factor)):
            wrong = ~torch.isfinite(term)
            if wrong.any():
                first = tuple(wrong.nonzero()[0].tolist())
                return f"SSNLoss: the {name} of batch item {first[0]} is {float(term[first])}: input is not finite."
        index = int((~torch.isfinite(item)).nonzero()[0])
        return f"SSNLoss: the log-likelihood of batch item {index} is {-float(item[index])}; its parameters are finite."


class _SampleLogLikelihood(torch.autograd.Function):
    """
    log p(y | eta^m) of every sample and rater, ``[B, M, raters]`` in float64, for noise drawn from seeds.

    Nothing of a sample is kept for the backward pass: its noise is drawn again from the seed. Over many voxels the
    weights softmax_m(log p) are almost one-hot, so only the few samples whose weight float32 can see are drawn again.
    """

    @staticmethod
    def forward(
        ctx: Any, parameters: torch.Tensor, target: torch.Tensor, valid: torch.Tensor, draws: _Draws
    ) -> torch.Tensor:
        ctx.save_for_backward(parameters, target, valid)
        ctx.draws = draws
        with torch.autocast(parameters.device.type, enabled=False):
            mean, log_diag, cov_factor = draws.split(parameters)
            std = (0.5 * log_diag).exp()
            result = mean.new_empty((draws.num_samples, len(mean), target.shape[1]), dtype=torch.float64)
            for chunk in draws.chunks:
                e1, e2 = chunk.noise(mean, draws.rank)
                deviation = _deviation(cov_factor, std, e1, e2)
                for sign, samples in chunk.parts():
                    row = result[samples]
                    log_p = torch.log_softmax(torch.add(mean, deviation[: len(row)], alpha=sign), dim=2)
                    log_p = log_p.gather(2, target.expand(len(row), -1, -1, -1))
                    torch.sum(log_p * valid, dim=3, dtype=torch.float64, out=row)
        return result.transpose(0, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        parameters, target, valid = ctx.saved_tensors
        draws: _Draws = ctx.draws
        with torch.autocast(parameters.device.type, enabled=False):
            mean, log_diag, cov_factor = draws.split(parameters)
            std = (0.5 * log_diag).exp()
            result = torch.zeros_like(parameters, dtype=mean.dtype, memory_format=torch.contiguous_format)
            d_mean, d_log_diag, d_factor = draws.split(result)
            # Contributions below this share of an item's largest are lost in float32's rounding of the sum.
            threshold = torch.finfo(torch.float32).eps / grad.shape[1] * grad.abs().amax((1, 2), keepdim=True)
            visible = (grad.abs() > threshold).any(2).any(0).tolist()
            weights = grad.transpose(0, 1).to(mean.dtype)
            for chunk in draws.chunks:
                if not any(visible[chunk.samples]):
                    continue
                e1, e2 = chunk.noise(mean, draws.rank)
                deviation = _deviation(cov_factor, std, e1, e2)
                for sign, samples in chunk.parts():
                    kept = [row for row, seen in enumerate(visible[samples]) if seen]
                    if not kept:
                        continue
                    row = slice(len(kept)) if kept[-1] == len(kept) - 1 else kept  # a slice makes no copy
                    weight = weights[samples][row, ..., None] * valid  # [k, B, raters, V]
                    # d log p(y) / d eta = onehot(y) - softmax(eta)
                    g = torch.softmax(torch.add(mean, deviation[row], alpha=sign), dim=2)
                    g.mul_(-weight.sum(2, keepdim=True))
                    g.scatter_add_(2, target.expand(len(g), -1, -1, -1), weight)
                    d_mean += g.sum(0)
                    if draws.mean_only:
                        continue
                    d_log_diag.add_((g * e2[row]).sum(0).mul_(std), alpha=0.5 * sign)
                    for b, factor in enumerate(d_factor.flatten(2)):  # a view: its last two axes are contiguous
                        factor.addmm_(e1[row, b].T, g[:, b].flatten(1), alpha=sign)
        return result.to(parameters.dtype), None, None, None


def _deviation(cov_factor: torch.Tensor, std: torch.Tensor, e1: torch.Tensor, e2: torch.Tensor) -> torch.Tensor:
    """P e1 + sqrt(D) e2, ``[k, B, C, V]`` for k draws."""
    deviation = torch.bmm(e1.transpose(0, 1), cov_factor.flatten(2)).transpose(0, 1).reshape(e2.shape)
    return deviation.addcmul_(std, e2)


@dataclass(frozen=True)
class _Chunk:
    """Draws that are made at once, from one seed; an antithetic draw is worth two samples."""

    seed: int | None
    num_draws: int
    samples: slice
    antithetic: bool

    def noise(self, like: torch.Tensor, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
        """e1 ``[k, B, R]`` and e2 ``[k, B, C, V]``; zeros, which leave the mean, without a seed."""
        if self.seed is None:
            return like.new_zeros(1, len(like), rank), torch.zeros_like(like)[None]
        return draw_noise(self.seed, self.num_draws, rank, like)

    def parts(self) -> list[tuple[int, slice]]:
        """Pairs of a sign of the deviations and the samples with this sign, one for each of the first draws."""
        if not self.antithetic:
            return [(1, self.samples)]
        start, stop = self.samples.start, self.samples.stop
        return [(1, slice(start, stop, 2)), (-1, slice(start + 1, stop, 2))]


class _Draws:
    """How the samples of one call are drawn: in chunks of a bounded size, each from a seed."""

    def __init__(self, loss: SSNLoss, like: torch.Tensor, generator: torch.Generator | None) -> None:
        self.out_channels, self.rank, self.mean_only = loss.out_channels, loss.rank, loss.mean_only
        self.num_samples = 1 if loss.mean_only else loss.num_samples
        if loss.mean_only:
            self.chunks = [_Chunk(None, 1, slice(0, 1), False)]
            return
        per_draw = 1 + loss.antithetic
        size = max(1, _CHUNK_ELEMENTS * (2 + loss.rank) // like.numel()) * per_draw
        parts = [slice(start, min(start + size, self.num_samples)) for start in range(0, self.num_samples, size)]
        seeds = draw_seeds(len(parts), generator)
        self.chunks = [
            _Chunk(seed, math.ceil((samples.stop - samples.start) / per_draw), samples, loss.antithetic)
            for seed, samples in zip(seeds, parts, strict=True)
        ]

    def split(self, parameters: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Mean, log-diagonal ``[B, C, V]`` and factor ``[B, R, C, V]``, in float32 or better."""
        parameters = full_precision(parameters.detach()).flatten(2)
        return split_parameters(parameters, self.out_channels, self.rank)
