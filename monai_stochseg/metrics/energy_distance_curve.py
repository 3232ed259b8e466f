# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.utils import MetricReduction

from .metric import ItemMetric
from .pairwise_distance import LabelMapDistance, check_label_maps

__all__ = ["EnergyDistanceCurveMetric", "compute_energy_distance_curve"]


class EnergyDistanceCurveMetric(ItemMetric):
    """
    Generalized energy distance of the first 1, 4, 16, ... samples, from one set of samples.

    ``y_pred`` are samples ``[B, N, *S]`` and ``y`` raters ``[B, R, *S]``, or both lists of B items. What is computed:
    :py:func:`compute_energy_distance_curve`. The value has one column for each number of samples; ``names`` names them.

    Args:
        num_samples: the numbers of samples; none above N.
        num_classes: number of classes, the background included.
        include_background: whether class 0 takes part, see :py:class:`~.pairwise_distance.LabelMapDistance`.
        distance: ``"iou"`` or ``"dice"``.
        empty: ``"agree"`` or ``"ignore"``, what a class that is empty in both maps is worth.
        reduction: see :py:class:`~.metric.ItemMetric`; the default is the mean over the items.

    Raises:
        ValueError: when a number of samples is below 1, or an option is unknown.
    """

    def __init__(
        self,
        num_samples: Sequence[int],
        num_classes: int,
        include_background: bool = False,
        distance: str = "iou",
        empty: str = "agree",
        reduction: MetricReduction | str = MetricReduction.MEAN_BATCH,
    ) -> None:
        super().__init__(reduction)
        if not num_samples or min(num_samples) < 1:
            raise ValueError(f"num_samples must be one or more numbers of at least 1, got {list(num_samples)}.")
        self.num_samples = tuple(num_samples)
        self.pairwise = LabelMapDistance(num_classes, include_background, distance, empty)
        self.names = [f"ged_{n}" for n in num_samples]

    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """One value per item and number of samples, ``[B, K]``."""
        return _curve(self.pairwise, y_pred, y, self.num_samples)


def compute_energy_distance_curve(
    y_pred: torch.Tensor,
    y: torch.Tensor,
    num_samples: Sequence[int],
    *,
    num_classes: int,
    include_background: bool = False,
    distance: str = "iou",
    empty: str = "agree",
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
        include_background: see :py:class:`~.pairwise_distance.LabelMapDistance`, as the next two.
        distance: ``"iou"`` or ``"dice"``.
        empty: ``"agree"`` or ``"ignore"``.

    Returns:
        ``[B, K]``.

    Raises:
        ValueError: when a number is below 1 or above N, shapes do not match, or an option is unknown.
    """
    return _curve(LabelMapDistance(num_classes, include_background, distance, empty), y_pred, y, num_samples)


def _curve(
    pairwise: LabelMapDistance, y_pred: torch.Tensor, y: torch.Tensor, num_samples: Sequence[int]
) -> torch.Tensor:
    y_pred, y = check_label_maps(y_pred=y_pred, y=y)
    total = y_pred.shape[1]
    if outside := [n for n in num_samples if not 1 <= n <= total]:
        raise ValueError(f"num_samples must lie in 1 to {total}, the samples in y_pred, got {outside}.")
    values = []
    for samples, raters in zip(y_pred, y, strict=True):
        d = pairwise({"y_pred": samples, "y": raters})
        spread = d[total:, total:].mean()
        values.append(torch.stack([2 * d[:n, total:].mean() - d[:n, :n].mean() - spread for n in num_samples]))
    return torch.stack(values)
