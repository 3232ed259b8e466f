# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import torch

from monai_stochseg.distributions import check_weights

from .label_maps import check_label_maps
from .metric import ItemMetric

__all__ = ["WeightEntropyMetric"]


class WeightEntropyMetric(ItemMetric):
    """
    Entropy of the weights of a set of samples, in nats: log N where all N weigh the same, 0 where one has all weight.

    Of a mixture of experts (Gao et al. 2023, https://arxiv.org/abs/2212.07328) in its compact form, where each of the S
    samples of expert k weighs ``pi_k / S``, it is the entropy of the gate's probabilities plus log S.

    Called with one set, ``metric(samples)``: ``[B, N, *S]``, or a list of B items ``[N, *S]``; the weights by keyword,
    ``y_pred_weights`` ``[B, N]``, or carried by the maps, which are not looked at otherwise.

    Args:
        reduction: see :py:class:`~.metric.ItemMetric`.
        get_not_nans: see :py:class:`~.metric.ItemMetric`.

    Raises:
        ValueError: in a call, when weights are wrong.

    Example::

        >>> maps = torch.zeros(1, 3, 4)
        >>> WeightEntropyMetric()(maps, y_pred_weights=torch.tensor([[0.5, 0.5, 0.0]]))
        tensor([[0.6931]])
    """

    weighted = ("y_pred",)
    one_set = True

    def _compute_tensor(
        self, y_pred: torch.Tensor, y: None = None, y_pred_weights: torch.Tensor | None = None
    ) -> torch.Tensor:
        """One value per item, ``[B, 1]``."""
        (y_pred,) = check_label_maps(y_pred=y_pred)
        weights = check_weights(y_pred_weights, y_pred, "y_pred_weights", "y_pred")
        return torch.special.entr(weights).sum(1, keepdim=True)
