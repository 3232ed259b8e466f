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

__all__ = ["MaximumDiceMatchMetric", "compute_maximum_dice_match"]


class MaximumDiceMatchMetric(ItemMetric):
    """
    Mean over the raters of the best sample's Dice, D_max.

    ``y_pred`` are samples ``[B, N, *S]`` and ``y`` raters ``[B, R, *S]``, or both lists of B items, in which N and R
    may differ between items. Weights are passed by keyword, ``y_pred_weights`` and ``y_weights``. What is computed:
    :py:func:`compute_maximum_dice_match`.

    Args:
        num_classes: number of classes, the background included.
        include_background: whether class 0 takes part, see :py:class:`~.pairwise_distance.LabelMapDistance`.
        empty: ``"agree"`` or ``"ignore"``, what a class that is empty in both maps is worth.
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
        ignore_index: int | None = None,
        reduction: MetricReduction | str = MetricReduction.MEAN,
        get_not_nans: bool = False,
        classes: Sequence[int] | None = None,
    ) -> None:
        super().__init__(reduction, get_not_nans)
        self.pairwise = LabelMapDistance(num_classes, include_background, "dice", empty, ignore_index, classes)

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
        return compute_maximum_dice_match(
            y_pred, y, **options, y_pred_weights=y_pred_weights, y_weights=y_weights
        ).unsqueeze(1)


def compute_maximum_dice_match(
    y_pred: torch.Tensor,
    y: torch.Tensor,
    *,
    num_classes: int,
    include_background: bool = False,
    classes: Sequence[int] | None = None,
    empty: str = "agree",
    y_pred_weights: torch.Tensor | None = None,
    y_weights: torch.Tensor | None = None,
    ignore_index: int | None = None,
) -> torch.Tensor:
    """
    Compute D_max, the mean over the raters of the Dice of the sample that comes closest, per item of the batch.

    D_max of Rahman et al., Ambiguous Medical Image Segmentation using Diffusion Models, CVPR 2023. It asks whether each
    rater's map is among the samples, not how often, and so never falls with more samples.

    Args:
        y_pred: sampled label maps ``[B, N, *S]`` of integers in any type, floating types included.
        y: the raters' label maps ``[B, R, *S]``.
        num_classes: number of classes, the background included.
        include_background: whether class 0 takes part, see :py:class:`~.pairwise_distance.LabelMapDistance`.
        classes: the classes that take part; None: all.
        empty: ``"agree"`` (the paper): the Dice of a class that is empty in both maps is 1; ``"ignore"``: it is left
            out.
        y_pred_weights: ``[B, N]``, at least 0, summing to 1 over N; None: uniform. A sample counts whatever its weight,
            save 0.
        y_weights: ``[B, R]``, likewise. A map of weight 0, as that of a missing rater, is not looked at.
        ignore_index: the label of void voxels; a voxel void in any map of an item is left out for this item.

    Returns:
        ``[B]``, in [0, 1], in PyTorch's default dtype, on the device of ``y_pred``. NaN where a pair of positive weight
        has no Dice (``empty="ignore"``).

    Raises:
        TypeError: when ``y_pred`` or ``y`` is no tensor.
        ValueError: when shapes do not match, a label is outside the classes, weights are none, or an option is unknown.
    """
    pairwise = LabelMapDistance(num_classes, include_background, "dice", empty, ignore_index, classes)
    y_pred, y = check_label_maps(y_pred=y_pred, y=y)
    s_weights = check_weights(y_pred_weights, y_pred, "y_pred_weights")
    r_weights = check_weights(y_weights, y, "y_weights")
    values = []
    for samples, raters, p, q in zip(y_pred, y, s_weights, r_weights, strict=True):
        shown = weighted_maps(samples, p)
        d = pairwise({"y_pred": shown, "y": weighted_maps(raters, q)})[: len(shown), len(shown) :]
        values.append(1 - (q[q > 0] * d.amin(0)).sum() / q.sum())  # amin keeps NaN
    return torch.stack(values)
