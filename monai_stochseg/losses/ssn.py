# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import torch
from monai.utils import LossReduction
from torch.nn.modules.loss import _Loss

from monai_stochseg.distributions import check_labels, check_weights, draw_map, split_parameters
from monai_stochseg.distributions.arguments import (
    check_arguments,
    check_at_least,
    check_num_classes,
    check_option,
    reads_values,
)
from monai_stochseg.distributions.base import plain
from monai_stochseg.distributions.noise import seed_numbers
from monai_stochseg.losses.raters import check_target
from monai_stochseg.losses.sample_log_likelihood import Sampling, sample_log_likelihood


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

        num_samples = 0 if self.mean_only else self.num_samples
        sampling = Sampling(self.out_channels, self.rank, num_samples, self.antithetic)
        seeds = seed_numbers(len(sampling.parts(input.numel())), generator)
        log_likelihood = sample_log_likelihood(plain(input), target, valid, seeds, sampling)
        item = math.log(max(num_samples, 1)) - torch.logsumexp(log_likelihood, dim=1)
        item = (item * weights.to(item)).sum(1).to(torch.promote_types(input.dtype, torch.float32))
        if reads_values() and not torch.isfinite(item).all():
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
