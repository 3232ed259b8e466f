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

__all__ = ["GeneralizedEnergyDistanceMetric", "compute_generalized_energy_distance"]


class GeneralizedEnergyDistanceMetric(ItemMetric):
    """
    Generalized energy distance between the distribution of sampled label maps and that of the raters.

    ``y_pred`` are samples ``[B, N, *S]`` and ``y`` raters ``[B, R, *S]``, or both lists of B items ``[N, *S]`` and
    ``[R, *S]``, in which N and R may differ between items. Weights are passed by keyword, ``y_pred_weights`` and
    ``y_weights``. What is computed: :py:func:`compute_generalized_energy_distance`. An item whose value is undefined
    (NaN) is left out of the mean over items, and a mean over no defined item is NaN.

    In an engine: ``IgniteMetricHandler(metric_fn=GeneralizedEnergyDistanceMetric(num_classes=4),
    output_transform=from_engine(["samples", "label"]))``.

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

    weighted = ("y_pred", "y")

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
        self,
        y_pred: torch.Tensor,
        y: torch.Tensor | None = None,
        y_pred_weights: torch.Tensor | None = None,
        y_weights: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """One value per item, ``[B, 1]``."""
        if y is None:
            raise ValueError(
                "y, the raters' label maps, is required; the spread of one set is SampleDiversityMetric's."
            )
        return compute_generalized_energy_distance(
            y_pred,
            y,
            **asdict(self.pairwise),
            self_pairs=self.self_pairs,
            y_pred_weights=y_pred_weights,
            y_weights=y_weights,
        ).unsqueeze(1)


def compute_generalized_energy_distance(
    y_pred: torch.Tensor,
    y: torch.Tensor,
    *,
    num_classes: int,
    include_background: bool = False,
    classes: Sequence[int] | None = None,
    distance: str = "iou",
    empty: str = "agree",
    self_pairs: bool = True,
    y_pred_weights: torch.Tensor | None = None,
    y_weights: torch.Tensor | None = None,
    ignore_index: int | None = None,
) -> torch.Tensor:
    """
    Compute the generalized energy distance between two sets of label maps, per item of the batch.

    ``D^2_GED = 2 E[d(s, y)] - E[d(s, s')] - E[d(y, y')]`` with s, s' from the samples and y, y' from the raters: the
    squared distance, no root taken. The definition is D^2_GED of Kohl et al., A Probabilistic U-Net for Segmentation of
    Ambiguous Images, NeurIPS 2018; the estimators are those of Szekely and Rizzo, Energy statistics: a class of
    statistics based on distances, Journal of Statistical Planning and Inference 143, 2013.

    Args:
        y_pred: sampled label maps ``[B, N, *S]`` of integers in any type, floating types included.
        y: the raters' label maps ``[B, R, *S]``.
        num_classes: number of classes, the background included.
        include_background: whether class 0 takes part, see :py:class:`~.pairwise_distance.LabelMapDistance`.
        classes: the classes that take part; None: all.
        distance: ``"iou"`` (the papers) or ``"dice"``.
        empty: ``"agree"`` (LIDC and BraTS in the papers) or ``"ignore"`` (Cityscapes), what a class that is empty in
            both maps is worth.
        self_pairs: True takes s = s' and y = y' into the means (V-statistic, the papers; biased, never negative for a
            distance of negative type); False leaves these pairs out (U-statistic, unbiased, may be negative).
        y_pred_weights: ``[B, N]``, at least 0, summing to 1 over N; None: uniform.
        y_weights: ``[B, R]``, likewise. A map of weight 0, as that of a missing rater, is not looked at.
        ignore_index: the label of void voxels; a voxel void in any map of an item is left out for this item.

    Returns:
        ``[B]``, in PyTorch's default dtype, on the device of ``y_pred``. NaN where a pair of positive weight has no
        distance (``empty="ignore"``), or ``self_pairs=False`` and only one map has a weight.

    Raises:
        TypeError: when ``y_pred`` or ``y`` is no tensor.
        ValueError: when shapes do not match, a label is outside the classes, weights are none, an option is unknown, or
            ``self_pairs=False`` and there are fewer than two samples or raters.
    """
    pairwise = LabelMapDistance(num_classes, include_background, distance, empty, ignore_index, classes)
    y_pred, y = check_label_maps(y_pred=y_pred, y=y)
    if not self_pairs and min(y_pred.shape[1], y.shape[1]) < 2:
        raise ValueError(
            "self_pairs=False needs at least 2 samples in y_pred and 2 raters in y, got "
            f"{y_pred.shape[1]} and {y.shape[1]}: add maps or set self_pairs=True."
        )
    s_weights = check_weights(y_pred_weights, y_pred, "y_pred_weights")
    r_weights = check_weights(y_weights, y, "y_weights")
    values = []
    for samples, raters, p, q in zip(y_pred, y, s_weights, r_weights, strict=True):
        d = pairwise({"y_pred": weighted_maps(samples, p), "y": weighted_maps(raters, q)})
        p, q = p[p > 0], q[q > 0]
        n = len(p)
        values.append(
            2 * mean_distance(d[:n, n:], p, q)
            - mean_distance(d[:n, :n], p, p, self_pairs)
            - mean_distance(d[n:, n:], q, q, self_pairs)
        )
    return torch.stack(values)
