# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import torch
from monai.utils import LossReduction
from torch.nn import functional as F
from torch.nn.modules.loss import _Loss

from monai_stochseg.distributions import BayesianOutput, Gaussian, check_labels, check_weights, full_precision
from monai_stochseg.distributions.arguments import (
    check_arguments,
    check_at_least,
    check_axes,
    check_fields,
    check_option,
    check_same_shape,
    reads_values,
)
from monai_stochseg.losses.elbo import ELBOLoss, gaussian_kl
from monai_stochseg.losses.raters import check_target

# (Molchanov et al. 2017, https://arxiv.org/abs/1701.05369, equation 14)
_K1, _K2, _K3 = 0.63576, 1.87320, 1.48695


class SupervisedUncertaintyLoss(_Loss):
    """
    Supervised uncertainty (Hu et al. 2019, https://arxiv.org/abs/1907.01949): the bound of a Probabilistic U-Net,
    :py:class:`ELBOLoss`, plus the divergence of the random weights from their prior, plus a term by which the samples
    of a voxel are as uncertain as its readers are.

    The last compares the mean ``p`` of the samples' probabilities with the frequency ``m`` of each class among the
    readers. Both are in float32 or better.

    * ``uncertainty="cross_entropy"``: ``-sum_c m_c log p_c``, as in the authors' code, which has the least value where
      ``p`` is ``m``. One reader is a draw, and the term remains right on average.
    * ``uncertainty="variance"``: ``(v(p) - v(m))^2`` with ``v(p) = 1 - sum_c p_c^2``, the variance of the label, of two
      classes twice that of the foreground's mask. A voxel that fewer than two readers have seen does not count: one
      reader's variance of 0 says nothing about how readers differ.

    A missing reader (weight 0) and a reader who calls the voxel void are left out of both.

    The divergence of the weights is of the whole training set: of an image it has the part ``1 / num_images``.

    Args:
        num_images: number of images of the training set.
        uncertainty_weight: of the term of the readers' uncertainty.
        uncertainty: ``"cross_entropy"`` or ``"variance"``.
        weight_beta: weight of the weights' divergence.
        weight_prior: ``"normal"``, standard normal, as in the authors' code; or ``"log_uniform"``, that of
            variational dropout, see :py:func:`log_uniform_kl`.
        beta: weight of the latent's divergence, see :py:class:`ELBOLoss`; an attribute that a schedule may set.
        reconstruction: ``"sum"`` over voxels or their ``"mean"``, of the cross entropy and of the readers' term.
        ignore_index: label of void voxels, which are left out.
        reduction: ``"mean"`` over the batch, ``"sum"`` or ``"none"``.

    Raises:
        ValueError: for a num_images below 1, a negative weight or an unknown option.

    Example::

        >>> from monai_stochseg.distributions import LatentLevel, LatentOutput
        >>> zero = torch.zeros(1, 1)
        >>> latent = LatentOutput(torch.zeros(1, 2, 1, 2), (LatentLevel(Gaussian(zero, zero), Gaussian(zero, zero)),),
        ...                       rater=torch.tensor([0]))
        >>> output = BayesianOutput(latent, torch.zeros(1, 4, 2, 1, 2), (Gaussian(zero + 1, zero),))
        >>> SupervisedUncertaintyLoss(num_images=2)(output, torch.tensor([[[[0, 1]]]]))  # 2 log 2 + 2 log 2 + 1/4
        tensor(3.0226)
    """

    @check_arguments
    def __init__(
        self,
        num_images: int,
        uncertainty_weight: float = 1.0,
        uncertainty: str = "cross_entropy",
        weight_beta: float = 1.0,
        weight_prior: str = "normal",
        beta: float = 1.0,
        reconstruction: str = "sum",
        ignore_index: int | None = None,
        reduction: LossReduction | str = LossReduction.MEAN,
    ) -> None:
        super().__init__(reduction=check_option("reduction", reduction, LossReduction).value)
        check_at_least(1, num_images=num_images)
        check_at_least(0, uncertainty_weight=uncertainty_weight, weight_beta=weight_beta)
        self.num_images = num_images
        self.uncertainty_weight = uncertainty_weight
        self.uncertainty = check_option("uncertainty", uncertainty, ("cross_entropy", "variance"))
        self.weight_beta = weight_beta
        self.weight_prior = check_option("weight_prior", weight_prior, ("normal", "log_uniform"))
        self.bound = ELBOLoss(beta, reconstruction, ignore_index, reduction="none")

    @property
    def beta(self) -> float:
        """Weight of the latent's divergence."""
        return self.bound.beta

    @beta.setter
    def beta(self, beta: float) -> None:
        self.bound.beta = beta

    @property
    def ignore_index(self) -> int | None:
        """Label of void voxels."""
        return self.bound.ignore_index

    @check_arguments
    def forward(
        self, input: BayesianOutput, target: torch.Tensor, rater_weights: torch.Tensor | None = None
    ) -> torch.Tensor:
        """
        Args:
            input: output of :py:class:`monai_stochseg.networks.nets.BayesianProbabilisticUNet`.
            target: integer labels of the raters, ``[B, raters, *S]``, the same that the network got.
            rater_weights: ``[B, raters]``, the same that the network got. A missing rater has weight 0.

        Raises:
            TypeError: when ``input`` is not a BayesianOutput.
            ValueError: when shapes do not fit, a label is outside the classes, there are no random weights, or the
                network drew a missing rater.
            FloatingPointError: when a term is not finite; names it.
        """
        check_fields(input)
        latent, samples, weights = input
        if not weights:
            raise ValueError("input must have the random weights of at least one layer, got none.")
        logits = latent.logits
        if samples.dim() != logits.dim() + 1 or not samples.numel() or samples[:, 0].shape != logits.shape:
            raise ValueError(
                f"samples must be [B, N, C, *S] for logits of {tuple(logits.shape)}, got {tuple(samples.shape)}."
            )
        bound = self.bound(latent, target, rater_weights)
        with torch.autocast(logits.device.type, enabled=False):
            frequency, readers = reader_frequency(samples[:, 0], target, rater_weights, self.ignore_index)
            uncertainty = self._uncertainty(full_precision(samples), frequency, readers)
            divergences = torch.stack([self._divergence(weight).sum() for weight in weights])
        for what, term in (("samples of batch item", uncertainty), ("weights of random layer", divergences)):
            if reads_values() and not torch.isfinite(term).all():
                first = int((~torch.isfinite(term)).nonzero()[0])
                value = float(term[first].detach())
                raise FloatingPointError(f"SupervisedUncertaintyLoss: the {what} {first} give a term of {value}.")
        item = bound + self.uncertainty_weight * uncertainty + self.weight_beta * divergences.sum() / self.num_images
        if self.reduction == LossReduction.NONE.value:
            return item
        return item.sum() if self.reduction == LossReduction.SUM.value else item.mean()

    def _uncertainty(self, samples: torch.Tensor, frequency: torch.Tensor, readers: torch.Tensor) -> torch.Tensor:
        """The term of each item, ``[B]``."""
        voxels: torch.Tensor
        if self.uncertainty == "variance":
            voxels, counted = (label_variance(samples.softmax(2).mean(1)) - label_variance(frequency)) ** 2, readers > 1
        else:
            log_mean = samples.log_softmax(2).logsumexp(1) - math.log(samples.shape[1])
            voxels, counted = -(frequency * log_mean).sum(1), readers > 0
        total = torch.where(counted, voxels, 0).flatten(1).sum(1)
        if self.bound.reconstruction == "sum":
            return total
        return total / counted.flatten(1).sum(1).clamp(min=1)

    def _divergence(self, weight: Gaussian) -> torch.Tensor:
        mean, log_std = (full_precision(x) for x in weight)
        if self.weight_prior == "log_uniform":
            return log_uniform_kl(mean, log_std)
        zero = torch.zeros_like(mean)
        return gaussian_kl(mean, log_std, zero, zero)


def label_variance(probabilities: torch.Tensor) -> torch.Tensor:
    """The variance of a one-hot label with these probabilities ``[B, C, *S]``, summed over the classes, ``[B, *S]``."""
    return 1 - probabilities.square().sum(1)


def reader_frequency(
    logits: torch.Tensor, target: torch.Tensor, rater_weights: torch.Tensor | None, ignore_index: int | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    How often the readers give a voxel each class, by weight, and how many have seen it.

    Args:
        logits: of the same images, ``[B, C, *S]``.
        target: integer labels of the raters, ``[B, R, *S]``.
        rater_weights: ``[B, R]``; a missing rater has weight 0.
        ignore_index: label of void voxels, which a reader has not seen.

    Returns:
        frequencies ``[B, C, *S]``, all 0 where no reader has seen the voxel, and the number of readers ``[B, *S]``.
    """
    target = check_target(target, logits, "samples")
    weights = check_weights(rater_weights, target, maps_name="target")
    labels, valid = check_labels(target, logits.shape[1], ignore_index, weights=weights)
    shares = valid * weights.to(full_precision(logits)).reshape(*weights.shape, *[1] * (target.dim() - 2))
    votes = torch.stack([(shares * (labels == c)).sum(1) for c in range(logits.shape[1])], dim=1)
    total = shares.sum(1, keepdim=True)
    return votes / torch.where(total > 0, total, 1), valid.sum(1)


@check_arguments
def log_uniform_kl(mean: torch.Tensor, log_std: torch.Tensor) -> torch.Tensor:
    """
    Divergence of a normal weight from the log-uniform prior of variational dropout, by the approximation of Molchanov
    et al. 2017 (https://arxiv.org/abs/1701.05369, equation 14), in float32 or better. The prior is improper: the
    constant is such that a weight of noise alone, ``std / |mean|`` to infinity, costs nothing.

    Args:
        mean: of any shape with an axis or more.
        log_std: log of the deviations, of the same shape.

    Returns:
        nats of each weight, of the same shape.

    Raises:
        ValueError: when the shapes differ.

    Example::

        >>> log_uniform_kl(torch.tensor([1.0, 1.0]), torch.tensor([0.0, -5.0]))
        tensor([0.4312, 5.6358])
    """
    check_axes("of one axis or more", 1, mean=mean)
    check_same_shape(mean=mean, log_std=log_std)
    mean, log_std = full_precision(mean), full_precision(log_std)
    least = torch.finfo(mean.dtype).tiny
    log_alpha = 2 * (log_std - mean.abs().clamp(min=least).log())
    return _K1 * torch.sigmoid(-(_K2 + _K3 * log_alpha)) + 0.5 * F.softplus(-log_alpha)
