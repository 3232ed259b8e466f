# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import warnings

import torch
from monai.utils import LossReduction
from torch.nn.modules.loss import _Loss

from monai_stochseg.distributions import full_precision
from monai_stochseg.distributions.arguments import check_arguments, check_option, check_positive
from monai_stochseg.distributions.base import plain
from monai_stochseg.distributions.probabilities import check_class_probabilities

_DIVERGENCES = ("kl", "reverse_kl", "js", "gaussian")


class CalibrationLoss(_Loss):
    """
    Divergence between the mean of the samples and the calibration target, KL(mean || target) in every voxel, which
    keeps an adversarially trained network from collapsing to one answer (Kassapis et al. 2021,
    https://arxiv.org/abs/2006.13144, equation 6).

    Summed over the classes, the mean over voxels, in float32 or better under autocast too. The target takes no
    gradient.

    Args:
        divergence: ``"kl"``, KL(mean || target), the paper's; ``"reverse_kl"``, KL(target || mean); ``"js"``, the mean
            of both against their midpoint; ``"gaussian"``, for regression: the squared error of the mean, which is
            twice the KL of two normals of unit variance.
        eps: both probabilities become ``(1 - C * eps) * p + eps``, which bounds their logarithms. A clamp at eps would
            remove the gradient of a class where the samples miss it. ``"gaussian"`` does not use it.
        reduction: ``"mean"`` over the batch, ``"sum"`` or ``"none"``.

    Raises:
        ValueError: for an unknown divergence or reduction, or an eps that is not positive.

    Example::

        >>> samples = torch.tensor([[[[1.0, 0.0]], [[0.0, 1.0]]], [[[0.0, 1.0]], [[1.0, 0.0]]]])[None]
        >>> calibration = torch.full((1, 2, 1, 2), 0.5)  # the mean of both samples
        >>> CalibrationLoss()(samples, calibration).abs() < 1e-6
        tensor(True)
    """

    @check_arguments
    def __init__(
        self, divergence: str = "kl", eps: float = 1e-3, reduction: LossReduction | str = LossReduction.MEAN
    ) -> None:
        super().__init__(reduction=check_option("reduction", reduction, LossReduction).value)
        check_positive(eps=eps)
        self.divergence = check_option("divergence", divergence, _DIVERGENCES)
        self.eps = eps

    @check_arguments
    def forward(self, input: torch.Tensor, target: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """
        Args:
            input: probabilities of N samples, ``[B, N, C, *S]``; for ``"gaussian"`` any values.
            target: the calibration network's probabilities, ``[B, C, *S]``; for ``"gaussian"`` any values.
            mask: ``[B, 1, *S]``, zero in void voxels, which are left out. An item that is void everywhere gives 0.

        Raises:
            ValueError: when shapes do not fit, probabilities do not sum to 1 over C, or eps is too large for C classes.
        """
        fits = input.dim() == target.dim() + 1 and input.shape[:1] + input.shape[2:] == target.shape
        if not fits or not input.numel():
            raise ValueError(
                "input must be [B, N, C, *S] and target [B, C, *S] of the same classes and size, got "
                f"{tuple(input.shape)} and {tuple(target.shape)}."
            )
        if input.shape[1] == 1:
            warnings.warn(
                "the calibration loss sees 1 sample of each image: its least value has every sample equal the "
                "calibration target, so it teaches the network to collapse. Give it several samples, such as 20.",
                stacklevel=2,
            )
        with torch.autocast(input.device.type, enabled=False):
            mean = full_precision(input.mean(1, dtype=torch.promote_types(input.dtype, torch.float32)))
            target = full_precision(target.detach())
            voxels = self._divergence(mean, target).reshape(len(target), -1)
            if mask is None:
                items = voxels.mean(1)
            else:
                valid = self._check_mask(mask, target)
                items = (voxels * valid).sum(1) / valid.sum(1).clamp(min=1)
        if self.reduction == LossReduction.NONE.value:
            return items
        return items.sum() if self.reduction == LossReduction.SUM.value else items.mean()

    def _divergence(self, p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
        """Of every voxel, ``[B, *S]``."""
        if self.divergence == "gaussian":
            return (p - q).square().sum(1)
        p, q = self._smooth("input", p), self._smooth("target", q)
        if self.divergence == "kl":
            return _kl(p, q)
        if self.divergence == "reverse_kl":
            return _kl(q, p)
        midpoint = (p + q) / 2
        return (_kl(p, midpoint) + _kl(q, midpoint)) / 2

    def _smooth(self, name: str, p: torch.Tensor) -> torch.Tensor:
        check_class_probabilities(name, p, cure="give the softmax of logits.")
        num_classes = p.shape[1]
        if num_classes * self.eps >= 1:
            raise ValueError(f"eps must be below 1 / C, {1 / num_classes:g} for {num_classes} classes, got {self.eps}.")
        return (1 - num_classes * self.eps) * p + self.eps

    @staticmethod
    def _check_mask(mask: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Where voxels count, ``[B, V]``."""
        expected = (len(target), 1, *target.shape[2:])
        if mask.shape != expected:
            raise ValueError(f"mask must be [B, 1, *S] = {expected}, got {tuple(mask.shape)}.")
        return plain(mask).reshape(len(mask), -1) != 0


def _kl(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """KL(p || q), summed over the classes."""
    return (p * (p.log() - q.log())).sum(1)
