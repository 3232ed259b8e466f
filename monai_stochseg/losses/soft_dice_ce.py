# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.losses import DiceLoss
from monai.utils import LossReduction
from torch import nn
from torch.nn.modules.loss import _Loss

from monai_stochseg.distributions.arguments import check_arguments, check_at_least, check_option, reads_values
from monai_stochseg.distributions.base import plain
from monai_stochseg.distributions.probabilities import check_class_probabilities


class SoftDiceCELoss(_Loss):
    """
    Weighted sum of MONAI's ``DiceLoss(soft_label=True)`` (Wang et al. 2023, https://arxiv.org/abs/2303.16296) and
    PyTorch's cross entropy with probabilities, for soft targets. Both are smallest where the softmax of the prediction
    is the target, which the Dice loss without ``soft_label`` is not.

    MONAI's ``DiceCELoss`` does the same for one-hot targets.

    Args:
        include_background: whether the Dice loss counts class 0; the cross entropy does.
        squared_pred: as in ``DiceLoss``.
        jaccard: as in ``DiceLoss``.
        reduction: ``"mean"`` or ``"sum"`` over batch and classes for the Dice loss, batch and voxels for the cross
            entropy.
        smooth_nr: as in ``DiceLoss``.
        smooth_dr: as in ``DiceLoss``. A value other than ``smooth_nr`` moves the least loss away from 0.
        batch: as in ``DiceLoss``.
        dice_weight: ``weight`` of ``DiceLoss``, ``[C]``, or ``[C - 1]`` without the background. The cross entropy takes
            none: weighted, it is smallest where the prediction is proportional to weight times target.
        lambda_dice: weight of the Dice loss.
        lambda_ce: weight of the cross entropy.

    Raises:
        ValueError: for an unknown reduction, or a negative lambda.

    Example::

        >>> target = torch.tensor([[[[0.9, 0.1]], [[0.1, 0.9]]]])
        >>> loss = SoftDiceCELoss()(target.log(), target)
        >>> bool(loss < SoftDiceCELoss()(torch.zeros_like(target), target))
        True
    """

    @check_arguments
    def __init__(
        self,
        include_background: bool = True,
        squared_pred: bool = False,
        jaccard: bool = False,
        reduction: LossReduction | str = LossReduction.MEAN,
        smooth_nr: float = 1e-5,
        smooth_dr: float = 1e-5,
        batch: bool = False,
        dice_weight: Sequence[float] | torch.Tensor | None = None,
        lambda_dice: float = 1.0,
        lambda_ce: float = 1.0,
    ) -> None:
        super().__init__(reduction=check_option("reduction", reduction, LossReduction).value)
        if self.reduction == LossReduction.NONE.value:
            raise ValueError(
                "reduction must be 'mean' or 'sum', got 'none': one term is per class, the other per voxel."
            )
        options = {"lambda_dice": lambda_dice, "lambda_ce": lambda_ce, "smooth_nr": smooth_nr, "smooth_dr": smooth_dr}
        check_at_least(0, **options)
        if dice_weight is not None and not (torch.as_tensor(dice_weight) >= 0).all():
            raise ValueError(f"dice_weight must not be negative, got {list(dice_weight)}.")
        self.dice = DiceLoss(
            include_background=include_background,
            softmax=True,
            squared_pred=squared_pred,
            jaccard=jaccard,
            reduction=self.reduction,
            smooth_nr=smooth_nr,
            smooth_dr=smooth_dr,
            batch=batch,
            weight=dice_weight,
            soft_label=True,
        )
        self.cross_entropy = nn.CrossEntropyLoss(reduction=self.reduction)
        self.lambda_dice = lambda_dice
        self.lambda_ce = lambda_ce

    @check_arguments
    def forward(
        self, input: torch.Tensor, target: torch.Tensor, rater_weights: torch.Tensor | None = None
    ) -> torch.Tensor:
        """
        Args:
            input: logits, ``[B, C, *S]``.
            target: probabilities, ``[B, C, *S]``, summing to 1 over C.
            rater_weights: not read: the target has merged the raters by their weights. It is here so that a trainer
                can call all losses alike.

        Raises:
            ValueError: when the shapes differ, the target holds no probabilities of at least 2 classes, or
                ``dice_weight`` has not one value for each class.
            FloatingPointError: when the result is not finite.
        """
        if target.shape != input.shape or input.shape[1] < 2:
            raise ValueError(
                f"target must be probabilities [B, C, *S] of the shape of input, {tuple(input.shape)}, with C of at "
                f"least 2, got {tuple(target.shape)}: make an integer label soft by SVLS or LabelSmoothing."
            )
        target = plain(target)
        check_class_probabilities("target", target, cure="resampling moves them, so make the label soft last.")
        target = target.to(torch.promote_types(input.dtype, torch.float32))
        weight, counted = self.dice.class_weight, input.shape[1] - (not self.dice.include_background)
        if weight is not None and weight.shape != (counted,):
            raise ValueError(f"dice_weight must have {counted} values, one for each class, got {weight.tolist()}.")
        loss = self.lambda_dice * self.dice(input, target) + self.lambda_ce * self.cross_entropy(input, target)
        if reads_values() and not torch.isfinite(loss).all():
            raise FloatingPointError(f"SoftDiceCELoss is {float(loss.detach())}: input is not finite.")
        return loss
