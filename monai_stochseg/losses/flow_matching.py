# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import torch
from monai.utils import LossReduction
from torch.nn import functional as F
from torch.nn.modules.loss import _Loss

from monai_stochseg.distributions import FlowOutput, full_precision
from monai_stochseg.distributions.arguments import check_arguments, check_fields, check_option, reads_values
from monai_stochseg.losses.raters import drawn_labels


class FlowMatchingLoss(_Loss):
    """
    Negative log-likelihood of the label to which a flow's path leads (Ribeiro et al. 2025,
    https://arxiv.org/abs/2507.18838): cross entropy of the categorical that the flow predicts on the way, as a mean
    over an item's voxels, in float32 or better.

    Args:
        ignore_index: label of void voxels, which are left out.
        reduction: ``"mean"`` over the batch, ``"sum"`` or ``"none"``.

    Raises:
        ValueError: for an unknown reduction.

    Example::

        >>> from monai_stochseg.distributions import FlowOutput
        >>> output = FlowOutput(torch.zeros(1, 2, 1, 2), rater=torch.tensor([0]))
        >>> FlowMatchingLoss()(output, torch.tensor([[[[0, 1]]]]))  # log 2
        tensor(0.6931)
    """

    @check_arguments
    def __init__(self, ignore_index: int | None = None, reduction: LossReduction | str = LossReduction.MEAN) -> None:
        super().__init__(reduction=check_option("reduction", reduction, LossReduction).value)
        self.ignore_index = ignore_index

    @check_arguments
    def forward(
        self, input: FlowOutput, target: torch.Tensor, rater_weights: torch.Tensor | None = None
    ) -> torch.Tensor:
        """
        Args:
            input: output of :py:class:`monai_stochseg.networks.nets.FlowSSN`.
            target: integer labels of the raters, ``[B, raters, *S]``, the same that the network got.
            rater_weights: ``[B, raters]``, the same that the network got. A missing rater has weight 0.

        Raises:
            TypeError: when ``input`` is not a FlowOutput.
            ValueError: when shapes do not fit, a label is outside the classes, or the network drew a missing rater.
            FloatingPointError: when the loss is not finite.
        """
        check_fields(input)
        labels, valid = drawn_labels(input.logits, target, input.rater, rater_weights, self.ignore_index)
        with torch.autocast(input.logits.device.type, enabled=False):
            voxels = F.cross_entropy(full_precision(input.logits), labels, reduction="none") * valid
            item = voxels.flatten(1).sum(1) / valid.flatten(1).sum(1).clamp(min=1)
        if reads_values() and not torch.isfinite(item).all():
            first = int((~torch.isfinite(item)).nonzero()[0])
            raise FloatingPointError(f"FlowMatchingLoss: the logits of batch item {first} give {float(item[first])}.")
        if self.reduction == LossReduction.NONE.value:
            return item
        return item.sum() if self.reduction == LossReduction.SUM.value else item.mean()
