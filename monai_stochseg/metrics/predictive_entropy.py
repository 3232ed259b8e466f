# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import torch

from .class_frequency import check_mask, check_probabilities
from .metric import ItemMetric

__all__ = ["PredictiveEntropyMetric"]


class PredictiveEntropyMetric(ItemMetric):
    """
    Mean over the voxels of the entropy of marginal class probabilities, in nats.

    Called with one set, ``metric(probabilities)``: ``[B, C, *S]``, or a list of B items ``[C, *S]``; ``mask``
    ``[B, 1, *S]`` by keyword. An item whose mask is empty is undefined (NaN). The entropy of single voxels is
    :py:class:`monai_stochseg.transforms.PredictiveEntropy`; its two parts, which need the samples, are
    :py:class:`~.entropy_decomposition.EntropyDecompositionMetric`.

    Args:
        reduction: see :py:class:`~.metric.ItemMetric`.
        get_not_nans: see :py:class:`~.metric.ItemMetric`.

    Example::

        >>> PredictiveEntropyMetric()(torch.tensor([[[0.5, 1.0], [0.5, 0.0]]]))  # half of log 2
        tensor([[0.3466]])
    """

    one_set = True

    def _compute_tensor(self, y_pred: torch.Tensor, y: None = None, mask: torch.Tensor | None = None) -> torch.Tensor:
        """One value per item, ``[B, 1]``."""
        probabilities = check_probabilities("y_pred", y_pred)
        inside = check_mask(mask, probabilities, "y_pred").flatten(1)
        entropy = torch.special.entr(probabilities).sum(1).flatten(1)
        return ((entropy * inside).sum(1) / inside.sum(1)).unsqueeze(1)
