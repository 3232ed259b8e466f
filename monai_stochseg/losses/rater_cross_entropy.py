# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import torch
from monai.utils import LossReduction
from torch.nn.modules.loss import _Loss

from monai_stochseg.distributions import check_labels, check_weights, full_precision
from monai_stochseg.distributions.arguments import check_arguments, check_option
from monai_stochseg.losses.raters import check_target, reduce_raters


class RaterCrossEntropyLoss(_Loss):
    """
    Cross entropy against all raters at once: the mean over voxels, then over raters and members.

    In expectation it equals drawing one rater per image and step (Kohl et al. 2018, https://arxiv.org/abs/1806.05034),
    with less noise. Each member of an ensemble is trained by itself: its gradient does not depend on the others.

    Computed in float32 or better under autocast too.

    Args:
        ignore_index: label of void voxels, which are left out.
        reduction: ``"mean"`` over the batch, ``"sum"`` or ``"none"``.

    Example::

        >>> logits, raters = torch.zeros(1, 2, 1, 2), torch.tensor([[[[0, 1]], [[1, 1]]]])
        >>> RaterCrossEntropyLoss()(logits, raters)
        tensor(0.6931)
        >>> logits[:, 1] = 2.0
        >>> RaterCrossEntropyLoss()(logits, raters, rater_weights=torch.tensor([[0.0, 1.0]]))  # the first is missing
        tensor(0.1269)
    """

    @check_arguments
    def __init__(self, ignore_index: int | None = None, reduction: LossReduction | str = LossReduction.MEAN) -> None:
        super().__init__(reduction=check_option("reduction", reduction, LossReduction).value)
        self.ignore_index = ignore_index

    @check_arguments
    def forward(
        self, input: torch.Tensor, target: torch.Tensor, rater_weights: torch.Tensor | None = None
    ) -> torch.Tensor:
        """
        Args:
            input: logits ``[B, C, *S]``, or those of M members ``[B, M, C, *S]``.
            target: integer labels of the raters, ``[B, raters, *S]``.
            rater_weights: ``[B, raters]``, non-negative, each row with a positive sum; a missing rater has weight 0.

        Raises:
            ValueError: when shapes do not fit or a label is outside the classes.
            FloatingPointError: when the result is not finite; names the item and the rater.
        """
        if target.dim() not in (4, 5) or target.dim() not in (input.dim(), input.dim() - 1):
            raise ValueError(
                f"target must be [B, raters, *S] of input [B, C, *S] or [B, M, C, *S], {tuple(input.shape)}, got "
                f"{tuple(target.shape)}."
            )
        members = input.unsqueeze(1) if input.dim() == target.dim() else input
        values = member_cross_entropy(members, target, rater_weights, self.ignore_index, "input").mean(1)
        return reduce_raters(values, check_weights(rater_weights, target, maps_name="target"), self.reduction)


@check_arguments
def rater_cross_entropy(
    logits: torch.Tensor,
    target: torch.Tensor,
    rater_weights: torch.Tensor | None = None,
    ignore_index: int | None = None,
) -> torch.Tensor:
    """
    Cross entropy of every hypothesis against every rater, in float32 or better under autocast too.

    Args:
        logits: M hypotheses, ``[B, M, C, *S]``.
        target: integer labels of R raters, ``[B, R, *S]``.
        rater_weights: ``[B, R]``; 0 marks a missing rater, whose label may hold any value.
        ignore_index: label of void voxels.

    Returns:
        nats per voxel, ``[B, M, R]``: the mean over the voxels that are not void to the rater; 0 where all are, or the
        rater is missing.

    Raises:
        ValueError: when shapes do not fit or a label is outside the classes.
    """
    return member_cross_entropy(logits, target, rater_weights, ignore_index, "logits")


def member_cross_entropy(
    logits: torch.Tensor,
    target: torch.Tensor,
    rater_weights: torch.Tensor | None,
    ignore_index: int | None,
    name: str,
) -> torch.Tensor:
    """As :py:func:`rater_cross_entropy`; ``name`` is that of the argument that brought the logits, for the errors."""
    if logits.dim() < 5 or not logits.numel():
        raise ValueError(f"{name} must be logits [B, M, C, *S], none of its axes empty, got {tuple(logits.shape)}.")
    target = check_target(target, logits[:, 0], f"a hypothesis in {name}")
    checked = check_labels(
        target, logits.shape[2], ignore_index, weights=check_weights(rater_weights, target, maps_name="target")
    )
    labels, valid = (x.flatten(2).unsqueeze(1) for x in checked)
    with torch.autocast(logits.device.type, enabled=False):
        log_p = full_precision(logits).log_softmax(2).flatten(3)
        log_p = log_p.gather(2, labels.expand(-1, log_p.shape[1], -1, -1))
        return -(log_p * valid).sum(3) / valid.sum(3).clamp(min=1)
