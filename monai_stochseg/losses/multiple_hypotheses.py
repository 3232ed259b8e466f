# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import torch
from monai.utils import LossReduction
from torch.nn.modules.loss import _Loss

from monai_stochseg.distributions import check_weights
from monai_stochseg.distributions.arguments import check_arguments, check_fraction, check_option
from monai_stochseg.losses.rater_cross_entropy import member_cross_entropy
from monai_stochseg.losses.raters import reduce_raters


class MultipleHypothesesLoss(_Loss):
    """
    Relaxed winner-takes-all of M hypotheses (Rupprecht et al. 2017, https://arxiv.org/abs/1612.00197, equation 10; the
    M-Heads of Kohl et al. 2018, https://arxiv.org/abs/1806.05034): for each rater the head of the lowest cross entropy
    weighs 1 - eps, and every other head eps / (M - 1), so that all heads are trained.

    Computed in float32 or better under autocast too.

    Args:
        eps: weight shared by the heads that are not the best; 0 trains the best head alone.
        ignore_index: label of void voxels, which are left out.
        reduction: ``"mean"`` over the batch, ``"sum"`` or ``"none"``.

    Raises:
        ValueError: when eps is outside [0, 1).

    Example::

        >>> heads = torch.zeros(1, 2, 2, 1, 2)
        >>> heads[0, 1, 1] = 2.0  # the second head answers with class 1
        >>> raters = torch.tensor([[[[0, 0]], [[1, 1]]]])
        >>> MultipleHypothesesLoss(eps=0)(heads, raters)  # each rater has a head that is near
        tensor(0.4100)
    """

    @check_arguments
    def __init__(
        self,
        eps: float = 0.05,
        ignore_index: int | None = None,
        reduction: LossReduction | str = LossReduction.MEAN,
    ) -> None:
        super().__init__(reduction=check_option("reduction", reduction, LossReduction).value)
        check_fraction(eps=eps)
        self.eps = eps
        self.ignore_index = ignore_index

    @check_arguments
    def forward(
        self, input: torch.Tensor, target: torch.Tensor, rater_weights: torch.Tensor | None = None
    ) -> torch.Tensor:
        """
        Args:
            input: logits of the heads, ``[B, M, C, *S]`` with M of at least 2.
            target: integer labels of the raters, ``[B, raters, *S]``.
            rater_weights: ``[B, raters]``, non-negative, each row with a positive sum; a missing rater has weight 0.

        Raises:
            ValueError: when shapes do not fit, there is a single head, or a label is outside the classes.
            FloatingPointError: when the result is not finite; names the item and the rater.
        """
        values = member_cross_entropy(input, target, rater_weights, self.ignore_index, "input")
        num_heads = values.shape[1]
        if num_heads < 2:
            raise ValueError(f"input must hold at least 2 heads, got {num_heads}: train one by RaterCrossEntropyLoss.")
        share = self.eps / (num_heads - 1)
        values = share * values.sum(1) + (1 - self.eps - share) * values.min(1).values
        return reduce_raters(values, check_weights(rater_weights, target, maps_name="target"), self.reduction)
