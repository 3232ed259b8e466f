# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import torch
from monai.utils import MetricReduction

from monai_stochseg.distributions import check_weights

from .map_sets import weighted_maps
from .metric import ItemMetric
from .pairwise_distance import LabelMapDistance, check_label_maps

__all__ = ["RaterDiceMetric", "compute_rater_dice"]


class RaterDiceMetric(ItemMetric):
    """
    Mean Dice over all pairs of a sample and a rater.

    ``y_pred`` are samples ``[B, N, *S]`` (N = 1 for a single answer) and ``y`` raters ``[B, R, *S]``, or both lists of
    B items, in which N and R may differ; ``y_pred_weights`` and ``y_weights`` by keyword. What is computed:
    :py:func:`compute_rater_dice`.

    Args:
        num_classes: number of classes, the background included.
        include_background: whether class 0 takes part, see :py:class:`~.pairwise_distance.LabelMapDistance`.
        empty: ``"agree"`` or ``"ignore"``, what a class that is empty in both maps is worth.
        nonempty_raters: whether only raters who drew something count.
        ignore_index: the label of void voxels.
        reduction: see :py:class:`~.metric.ItemMetric`.
        get_not_nans: see :py:class:`~.metric.ItemMetric`.
        classes: the classes that take part; None: all, see :py:class:`~.pairwise_distance.LabelMapDistance`.

    Raises:
        ValueError: when an option is unknown or no class takes part.
    """

    weighted = ("y_pred", "y")

    def __init__(
        self,
        num_classes: int,
        include_background: bool = False,
        empty: str = "agree",
        nonempty_raters: bool = False,
        ignore_index: int | None = None,
        reduction: MetricReduction | str = MetricReduction.MEAN,
        get_not_nans: bool = False,
        classes: Sequence[int] | None = None,
    ) -> None:
        super().__init__(reduction, get_not_nans)
        self.pairwise = LabelMapDistance(num_classes, include_background, "dice", empty, ignore_index, classes)
        self.nonempty_raters = nonempty_raters

    def _compute_tensor(
        self,
        y_pred: torch.Tensor,
        y: torch.Tensor,
        y_pred_weights: torch.Tensor | None = None,
        y_weights: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """One value per item, ``[B, 1]``."""
        options = asdict(self.pairwise)
        del options["distance"]
        return compute_rater_dice(
            y_pred,
            y,
            **options,
            nonempty_raters=self.nonempty_raters,
            y_pred_weights=y_pred_weights,
            y_weights=y_weights,
        ).unsqueeze(1)


def compute_rater_dice(
    y_pred: torch.Tensor,
    y: torch.Tensor,
    *,
    num_classes: int,
    include_background: bool = False,
    classes: Sequence[int] | None = None,
    empty: str = "agree",
    nonempty_raters: bool = False,
    y_pred_weights: torch.Tensor | None = None,
    y_weights: torch.Tensor | None = None,
    ignore_index: int | None = None,
) -> torch.Tensor:
    """
    Compute the mean Dice over all pairs of a sample and a rater, per item of the batch.

    On LIDC, where a reader who marked nothing gave an empty map, both forms are of use: over all raters, two empty maps
    agreeing with Dice 1, it rewards the right share of empty samples; over the raters who drew something
    (``nonempty_raters=True``) it is the quality of the outline, and an empty sample has Dice 0. MONAI's Dice, in
    :py:class:`~.region_dice.RegionDiceMetric`, never counts a rater without the class.

    Args:
        y_pred: sampled label maps ``[B, N, *S]`` of integers in any type, floating types included.
        y: the raters' label maps ``[B, R, *S]``.
        num_classes: number of classes, the background included.
        include_background: whether class 0 takes part, see :py:class:`~.pairwise_distance.LabelMapDistance`.
        classes: the classes that take part; None: all.
        empty: ``"agree"``: the Dice of a class that is empty in both maps is 1; ``"ignore"``: it is left out of the
            mean of this pair, and a pair with no class left out of the mean over the pairs.
        nonempty_raters: count only raters who gave a voxel one of the classes that take part, the background aside.
        y_pred_weights: ``[B, N]``, at least 0, summing to 1 over N; None: uniform.
        y_weights: ``[B, R]``, likewise. A map of weight 0, as that of a missing rater, is not looked at.
        ignore_index: the label of void voxels; a voxel void in any map of an item is left out for this item.

    Returns:
        ``[B]``, in [0, 1], in PyTorch's default dtype, on the device of ``y_pred``. NaN where no pair is left.

    Raises:
        TypeError: when ``y_pred`` or ``y`` is no tensor.
        ValueError: when shapes do not match, a label is outside the classes, weights are none, or an option is unknown.
    """
    pairwise = LabelMapDistance(num_classes, include_background, "dice", empty, ignore_index, classes)
    y_pred, y = check_label_maps(y_pred=y_pred, y=y)
    s_weights = check_weights(y_pred_weights, y_pred, "y_pred_weights")
    r_weights = check_weights(y_weights, y, "y_weights")
    foreground = torch.tensor([c for c in pairwise.compared if c > 0], device=y.device)
    values = []
    for samples, raters, p, q in zip(y_pred, y, s_weights, r_weights, strict=True):
        shown, drawn = weighted_maps(samples, p), weighted_maps(raters, q)
        p, q = p[p > 0], q[q > 0]
        dice = 1 - pairwise({"y_pred": shown, "y": drawn})[: len(p), len(p) :]
        if nonempty_raters:
            q = q * torch.stack([torch.isin(rater, foreground).any() for rater in drawn])
        pairs = torch.outer(p, q) * ~dice.isnan()
        values.append((pairs * dice.nan_to_num()).sum() / pairs.sum())
    return torch.stack(values)
