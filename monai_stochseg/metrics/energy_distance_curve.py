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

__all__ = ["EnergyDistanceCurveMetric", "compute_energy_distance_curve"]


class EnergyDistanceCurveMetric(ItemMetric):
    """
    Generalized energy distance of the first 1, 4, 16, ... samples, from one set of samples.

    ``y_pred`` are samples ``[B, N, *S]`` and ``y`` raters ``[B, R, *S]``, or both lists of B items; the raters' weights
    by keyword, ``y_weights``. Samples have none: the first few of a weighted set are no set of fewer samples. What is
    computed: :py:func:`compute_energy_distance_curve`. The value has one column for each number of samples; ``names``
    names them.

    Args:
        num_samples: the numbers of samples; none above N.
        num_classes: number of classes, the background included.
        include_background: whether class 0 takes part, see :py:class:`~.pairwise_distance.LabelMapDistance`.
        distance: ``"iou"`` or ``"dice"``.
        empty: ``"agree"`` or ``"ignore"``, what a class that is empty in both maps is worth.
        reduction: see :py:class:`~.metric.ItemMetric`; the default is the mean over the items.
        ignore_index: the label of void voxels.
        classes: the classes that take part; None: all, see :py:class:`~.pairwise_distance.LabelMapDistance`.

    Raises:
        ValueError: when a number of samples is below 1, or an option is unknown.
    """

    weighted = ("y",)

    def __init__(
        self,
        num_samples: Sequence[int],
        num_classes: int,
        include_background: bool = False,
        distance: str = "iou",
        empty: str = "agree",
        reduction: MetricReduction | str = MetricReduction.MEAN_BATCH,
        ignore_index: int | None = None,
        classes: Sequence[int] | None = None,
    ) -> None:
        super().__init__(reduction)
        if not num_samples or min(num_samples) < 1:
            raise ValueError(f"num_samples must be one or more numbers of at least 1, got {list(num_samples)}.")
        self.num_samples = tuple(num_samples)
        self.pairwise = LabelMapDistance(num_classes, include_background, distance, empty, ignore_index, classes)
        self.names = [f"ged_{n}" for n in num_samples]

    def _compute_tensor(
        self, y_pred: torch.Tensor, y: torch.Tensor, y_weights: torch.Tensor | None = None
    ) -> torch.Tensor:
        """One value per item and number of samples, ``[B, K]``."""
        return compute_energy_distance_curve(y_pred, y, self.num_samples, **asdict(self.pairwise), y_weights=y_weights)


def compute_energy_distance_curve(
    y_pred: torch.Tensor,
    y: torch.Tensor,
    num_samples: Sequence[int],
    *,
    num_classes: int,
    include_background: bool = False,
    classes: Sequence[int] | None = None,
    distance: str = "iou",
    empty: str = "agree",
    y_weights: torch.Tensor | None = None,
    ignore_index: int | None = None,
) -> torch.Tensor:
    """
    Compute the generalized energy distance of the first n samples for several n, per item of the batch.

    Each equals :py:func:`~.energy_distance.compute_generalized_energy_distance` of these samples; the distances of all
    pairs are computed once.

    Args:
        y_pred: sampled label maps ``[B, N, *S]``.
        y: the raters' label maps ``[B, R, *S]``.
        num_samples: the K numbers of samples.
        num_classes: number of classes, the background included.
        include_background: see :py:class:`~.pairwise_distance.LabelMapDistance`, as the next three.
        classes: the classes that take part; None: all.
        distance: ``"iou"`` or ``"dice"``.
        empty: ``"agree"`` or ``"ignore"``.
        y_weights: ``[B, R]``, at least 0, summing to 1 over R; None: uniform. A map of weight 0, as that of a missing
            rater, is not looked at.
        ignore_index: the label of void voxels; a voxel void in any map of an item is left out for this item, in all N
            samples' comparisons.

    Returns:
        ``[B, K]``.

    Raises:
        ValueError: when a number is below 1 or above N, shapes do not match, weights are none, or an option is unknown.
    """
    pairwise = LabelMapDistance(num_classes, include_background, distance, empty, ignore_index, classes)
    y_pred, y = check_label_maps(y_pred=y_pred, y=y)
    total = y_pred.shape[1]
    if outside := [n for n in num_samples if not 1 <= n <= total]:
        raise ValueError(f"num_samples must lie in 1 to {total}, the samples in y_pred, got {outside}.")
    weights = check_weights(y_weights, y, "y_weights")
    values = []
    for samples, raters, q in zip(y_pred, y, weights, strict=True):
        d = pairwise({"y_pred": samples, "y": weighted_maps(raters, q)})
        q = q[q > 0]
        to_raters = (d[:total, total:] * q).sum(1) / q.sum()
        spread = mean_distance(d[total:, total:], q, q)
        values.append(torch.stack([2 * to_raters[:n].mean() - d[:n, :n].mean() - spread for n in num_samples]))
    return torch.stack(values)
