# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import torch
from monai.utils import MetricReduction
from scipy.optimize import linear_sum_assignment

from .metric import ItemMetric
from .pairwise_distance import LabelMapDistance, check_label_maps
from .weights import check_weights, weighted_maps

__all__ = ["HungarianMatchedIoUMetric", "compute_hungarian_matched_iou"]


class HungarianMatchedIoUMetric(ItemMetric):
    """
    Hungarian-matched IoU between sampled label maps and those of the raters.

    ``y_pred`` are samples ``[B, N, *S]`` and ``y`` raters ``[B, R, *S]``, or both lists of B items, in which N and R
    may differ between items. Weights are passed by keyword, ``y_pred_weights`` and ``y_weights``. What is computed:
    :py:func:`compute_hungarian_matched_iou`.

    Args:
        num_classes: number of classes, the background included.
        include_background: whether class 0 takes part, see :py:class:`~.pairwise_distance.LabelMapDistance`.
        empty: ``"agree"`` or ``"ignore"``, what a class that is empty in both maps is worth.
        ignore_index: the label of void voxels.
        reduction: see :py:class:`~.metric.ItemMetric`.
        get_not_nans: see :py:class:`~.metric.ItemMetric`.

    Raises:
        ValueError: when an option is unknown or no class takes part.
    """

    def __init__(
        self,
        num_classes: int,
        include_background: bool = False,
        empty: str = "agree",
        ignore_index: int | None = None,
        reduction: MetricReduction | str = MetricReduction.MEAN,
        get_not_nans: bool = False,
    ) -> None:
        super().__init__(reduction, get_not_nans)
        self.pairwise = LabelMapDistance(num_classes, include_background, "iou", empty, ignore_index)

    def _compute_tensor(
        self,
        y_pred: torch.Tensor,
        y: torch.Tensor,
        y_pred_weights: torch.Tensor | None = None,
        y_weights: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """One value per item, ``[B, 1]``."""
        return compute_hungarian_matched_iou(
            y_pred,
            y,
            num_classes=self.pairwise.num_classes,
            include_background=self.pairwise.include_background,
            empty=self.pairwise.empty,
            ignore_index=self.pairwise.ignore_index,
            y_pred_weights=y_pred_weights,
            y_weights=y_weights,
        ).unsqueeze(1)


def compute_hungarian_matched_iou(
    y_pred: torch.Tensor,
    y: torch.Tensor,
    *,
    num_classes: int,
    include_background: bool = False,
    empty: str = "agree",
    y_pred_weights: torch.Tensor | None = None,
    y_weights: torch.Tensor | None = None,
    ignore_index: int | None = None,
) -> torch.Tensor:
    """
    Compute the mean IoU of samples and raters matched one to one in the best way, per item of the batch.

    Both sets are repeated to the least common multiple of their sizes and matched so that the mean IoU over the pairs
    is greatest. Introduced by Kohl et al., A Hierarchical Probabilistic U-Net for Modeling Multi-Scale Ambiguities,
    2019; with repeated sets in Kassapis et al., Calibrated Adversarial Refinement for Stochastic Semantic Segmentation,
    ICCV 2021, and Gao et al., Modeling Multimodal Aleatoric Uncertainty in Segmentation with Mixture of Stochastic
    Experts, ICLR 2023. Time grows with the cube of the multiple.

    Args:
        y_pred: sampled label maps ``[B, N, *S]`` of integers in any type, floating types included.
        y: the raters' label maps ``[B, R, *S]``.
        num_classes: number of classes, the background included.
        include_background: whether class 0 takes part, see :py:class:`~.pairwise_distance.LabelMapDistance`.
        empty: ``"agree"``: the IoU of a class that is empty in both maps is 1; ``"ignore"``: it is left out.
        y_pred_weights: ``[B, N]``, summing to 1 over N; None: uniform. The positive weights of an item must be equal,
            for the matching knows no others. A map of weight 0 is not looked at.
        y_weights: ``[B, R]``, likewise: 0 for a missing rater and one over their number for those present.
        ignore_index: the label of void voxels; a voxel void in any map of an item is left out for this item.

    Returns:
        ``[B]``, in [0, 1], in PyTorch's default dtype, on the device of ``y_pred``. NaN where a pair of positive weight
        has no IoU (``empty="ignore"``).

    Raises:
        TypeError: when ``y_pred`` or ``y`` is no tensor.
        ValueError: when shapes do not match, a label is outside the classes, weights are none or are not equal, or an
            option is unknown.
    """
    pairwise = LabelMapDistance(num_classes, include_background, "iou", empty, ignore_index)
    y_pred, y = check_label_maps(y_pred=y_pred, y=y)
    s_weights = _check_equal_weights("y_pred_weights", y_pred_weights, y_pred)
    r_weights = _check_equal_weights("y_weights", y_weights, y)
    values = []
    for item, (p, q) in enumerate(zip(s_weights, r_weights, strict=True)):
        samples, raters = weighted_maps(y_pred[item], p), weighted_maps(y[item], q)
        n, r = len(samples), len(raters)
        d = pairwise({"y_pred": samples, "y": raters})[:n, n:]
        if d.isnan().any():
            values.append(d.new_tensor(math.nan))
            continue
        times = math.lcm(n, r)
        cost = d.repeat_interleave(times // n, 0).repeat_interleave(times // r, 1)
        rows, columns = linear_sum_assignment(cost.cpu().numpy())
        values.append(1 - cost[rows, columns].mean())
    return torch.stack(values)


def _check_equal_weights(name: str, weights: torch.Tensor | None, maps: torch.Tensor) -> torch.Tensor:
    """As ``check_weights``, and the positive weights of an item must be equal."""
    checked = check_weights(name, weights, maps)
    equal = (checked > 0) / (checked > 0).sum(1, keepdim=True)
    if (checked - equal).abs().max() > 1e-4:
        raise ValueError(
            f"{name} must be equal wherever they are positive, for maps are matched one to one, got "
            f"{checked.tolist()}: give 0 to a map that is missing and the same weight to all others of its item."
        )
    return checked
