# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import torch

from monai_stochseg.distributions import check_weights
from monai_stochseg.distributions.arguments import check_arguments

from .class_frequency import check_mask, check_probabilities, label_frequency
from .label_maps import check_label_maps, refuse_channels_as_raters
from .metric import ItemMetric

__all__ = ["BrierScoreMetric", "compute_brier_score"]


class BrierScoreMetric(ItemMetric):
    """
    Brier score of marginal probabilities ``[B, C, *S]`` against raters ``[B, R, *S]``, or both lists of B items.

    ``y_weights``, unless carried by the raters, and ``mask`` are passed by keyword. What is computed:
    :py:func:`compute_brier_score`.

    In an engine: ``IgniteMetricHandler(metric_fn=BrierScoreMetric(),
    output_transform=from_engine(["probabilities", "label"]))``.

    Args:
        reduction: see :py:class:`~.metric.ItemMetric`.
        get_not_nans: see :py:class:`~.metric.ItemMetric`.

    Example::

        >>> p, raters = torch.tensor([[[0.8, 0.4], [0.2, 0.6]]]), torch.tensor([[[0, 1], [0, 0]]])
        >>> BrierScoreMetric()(p, raters)
        tensor([[0.0500]])
    """

    weighted = ("y",)

    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor, **given: torch.Tensor | None) -> torch.Tensor:
        """One value per item, ``[B, 1]``."""
        return compute_brier_score(y_pred, y, **given).unsqueeze(1)


@check_arguments
def compute_brier_score(
    y_pred: torch.Tensor,
    y: torch.Tensor,
    *,
    y_weights: torch.Tensor | None = None,
    mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """
    Compute the Brier score of marginal class probabilities against the raters' label frequency, per item of the batch.

    ``sum_c (p_c - f_c)^2``, averaged over voxels, with f the share of the raters who give the voxel class c: the score
    of Brier, Verification of forecasts expressed in terms of probability, Monthly Weather Review 78, 1950, over all
    classes (0 to 2; in a binary task twice the score of the foreground alone). It is 0 for the raters' own frequency:
    scored against one rater at a time the mean is greater by ``sum_c f_c (1 - f_c)``, the raters' disagreement.

    Args:
        y_pred: marginal class probabilities ``[B, C, *S]``.
        y: the raters' label maps ``[B, R, *S]`` of integers in any type, floating types included.
        y_weights: ``[B, R]``; None: uniform; 0 for a missing rater, whose map may hold anything.
        mask: region ``[B, 1, *S]``, above 0 inside; None: everywhere.

    Returns:
        ``[B]`` in PyTorch's default dtype, on the device of ``y_pred``. NaN where the mask is empty.

    Raises:
        TypeError: when ``y_pred`` or ``y`` is no tensor.
        ValueError: when shapes do not match, ``y_pred`` holds no probabilities, a label inside the mask is outside the
            C classes, ``y`` is one-hot, or weights are wrong.

    Example::

        >>> p, raters = torch.tensor([[[0.8, 0.4], [0.2, 0.6]]]), torch.tensor([[[0, 1], [0, 0]]])
        >>> compute_brier_score(p, raters, y_weights=torch.tensor([[3, 1]]))
        tensor([0.0625])
    """
    y_pred = check_probabilities("y_pred", y_pred)
    y_pred, y = check_label_maps(y_pred=y_pred, y=y)
    inside = check_mask(mask, y_pred, "y_pred")
    refuse_channels_as_raters(y, y_weights, y_pred.shape[1], mask=inside)
    weights = check_weights(y_weights, y, "y_weights", "y")
    frequency = label_frequency("y", y, weights, y_pred.shape[1], inside)
    error = (y_pred - frequency).square().sum(1, keepdim=True) * inside
    return error.flatten(1).sum(1) / inside.flatten(1).sum(1)
