# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import torch
from monai.utils import MetricReduction

from monai_stochseg.distributions import check_weights

from .map_sets import mean_distance, weighted_maps
from .metric import ItemMetric
from .pairwise_distance import LabelMapDistance, check_label_maps

__all__ = ["SampleDiversityMetric", "compute_sample_diversity"]


class SampleDiversityMetric(ItemMetric):
    """
    Mean distance between two label maps of one set, averaged over items: how much samples, or raters, differ.

    Called with one set, ``metric(samples)``: ``[B, N, *S]`` or a list of B items ``[N, *S]``, in which N may differ;
    weights by keyword, ``y_pred_weights``. What is computed: :py:func:`compute_sample_diversity`.

    In an engine, whose handler always passes a pair, the second is None:
    ``IgniteMetricHandler(metric_fn=SampleDiversityMetric(num_classes=4),
    output_transform=lambda output: (from_engine("samples")(output), None))``. Any other is rejected, for there is no
    diversity of one set against another.

    Args:
        num_classes: number of classes, the background included.
        include_background: whether class 0 takes part, see :py:class:`~.pairwise_distance.LabelMapDistance`.
        distance: ``"iou"`` or ``"dice"``.
        empty: ``"agree"`` or ``"ignore"``, what a class that is empty in both maps is worth.
        self_pairs: whether the pairs of a map with itself count.
        ignore_index: the label of void voxels.
        reduction: see :py:class:`~.metric.ItemMetric`.
        get_not_nans: see :py:class:`~.metric.ItemMetric`.
        classes: the classes that take part; None: all, see :py:class:`~.pairwise_distance.LabelMapDistance`.

    Raises:
        ValueError: when an option is unknown or no class takes part.
    """

    weighted = ("y_pred",)
    one_set = True

    def __init__(
        self,
        num_classes: int,
        include_background: bool = False,
        distance: str = "iou",
        empty: str = "agree",
        self_pairs: bool = True,
        ignore_index: int | None = None,
        reduction: MetricReduction | str = MetricReduction.MEAN,
        get_not_nans: bool = False,
        classes: Sequence[int] | None = None,
    ) -> None:
        super().__init__(reduction, get_not_nans)
        self.pairwise = LabelMapDistance(num_classes, include_background, distance, empty, ignore_index, classes)
        self.self_pairs = self_pairs

    def _compute_tensor(
        self, y_pred: torch.Tensor, y: None = None, y_pred_weights: torch.Tensor | None = None
    ) -> torch.Tensor:
        """One value per item, ``[B, 1]``."""
        return compute_sample_diversity(
            y_pred, **asdict(self.pairwise), self_pairs=self.self_pairs, y_pred_weights=y_pred_weights
        ).unsqueeze(1)


def compute_sample_diversity(
    y_pred: torch.Tensor,
    *,
    num_classes: int,
    include_background: bool = False,
    classes: Sequence[int] | None = None,
    distance: str = "iou",
    empty: str = "agree",
    self_pairs: bool = True,
    y_pred_weights: torch.Tensor | None = None,
    ignore_index: int | None = None,
) -> torch.Tensor:
    """
    Compute the diversity ``E[d(s, s')]`` of a set of label maps, per item of the batch.

    The second term of the generalized energy distance, reported beside it by Monteiro et al., Stochastic Segmentation
    Networks, NeurIPS 2020, and Kassapis et al., Calibrated Adversarial Refinement for Stochastic Semantic Segmentation,
    ICCV 2021. Given the raters' maps it is their disagreement, the third term.

    Args:
        y_pred: label maps ``[B, N, *S]`` of integers in any type, floating types included.
        num_classes: number of classes, the background included.
        include_background: whether class 0 takes part, see :py:class:`~.pairwise_distance.LabelMapDistance`.
        classes: the classes that take part; None: all.
        distance: ``"iou"`` (the papers) or ``"dice"``.
        empty: ``"agree"`` or ``"ignore"``, what a class that is empty in both maps is worth.
        self_pairs: True takes s = s' into the mean, as in the papers' energy distance; False leaves it out (unbiased).
        y_pred_weights: ``[B, N]``, at least 0, summing to 1 over N; None: uniform. A map of weight 0 is not looked at.
        ignore_index: the label of void voxels; a voxel void in any map of an item is left out for this item.

    Returns:
        ``[B]``, in [0, 1], in PyTorch's default dtype, on the device of ``y_pred``. NaN where a pair of positive weight
        has no distance (``empty="ignore"``), or ``self_pairs=False`` and only one map has a weight.

    Raises:
        TypeError: when ``y_pred`` is no tensor.
        ValueError: when shapes do not match, a label is outside the classes, weights are none, an option is unknown, or
            ``self_pairs=False`` and there are fewer than two maps.
    """
    pairwise = LabelMapDistance(num_classes, include_background, distance, empty, ignore_index, classes)
    (y_pred,) = check_label_maps(y_pred=y_pred)
    if not self_pairs and y_pred.shape[1] < 2:
        raise ValueError("self_pairs=False needs at least 2 maps in y_pred, got 1: add maps or set self_pairs=True.")
    weights = check_weights(y_pred_weights, y_pred, "y_pred_weights")
    values = []
    for maps, p in zip(y_pred, weights, strict=True):
        d = pairwise({"y_pred": weighted_maps(maps, p)})
        p = p[p > 0]
        values.append(mean_distance(d, p, p, self_pairs))
    return torch.stack(values)
