# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.utils import MetricReduction

from monai_stochseg.distributions.arguments import check_arguments

from .distance_metric import DistanceMetric
from .map_sets import counted_pairs, mean_distance
from .pairwise_distance import LabelMapDistance, as_distance

__all__ = ["EnergyDistanceCurveMetric", "compute_energy_distance_curve"]


class EnergyDistanceCurveMetric(DistanceMetric):
    """
    Generalized energy distance of the first 1, 4, 16, ... samples, from one set of samples.

    ``y_pred`` are samples ``[B, N, *S]`` and ``y`` raters ``[B, R, *S]``, or both lists of B items; the raters' weights
    by keyword, ``y_weights``, or carried by the maps. Samples have no weights: the first few of a weighted set are no
    set of fewer samples. What is computed: :py:func:`compute_energy_distance_curve`. The value has one column for each
    number of samples; ``names`` names them.

    Args:
        num_samples: the numbers of samples, at most N.
        distance: between two label maps, or the number of classes, see
            :py:class:`~.pairwise_distance.LabelMapDistance`.
        reduction: see :py:class:`~.metric.ItemMetric`; the default is the mean over the items.

    Raises:
        ValueError: when a number of samples is below 1, or an option is unknown.

    Example::

        >>> maps = torch.tensor([[[1, 0, 0, 0], [1, 1, 0, 0]]])
        >>> metric = EnergyDistanceCurveMetric((1, 2), 2)
        >>> metric(maps, maps)
        tensor([[0.2500, 0.0000]])
        >>> metric.names
        ['ged_1', 'ged_2']
    """

    weighted = ("y",)

    @check_arguments
    def __init__(
        self,
        num_samples: Sequence[int],
        distance: LabelMapDistance | int,
        reduction: MetricReduction | str = MetricReduction.MEAN_BATCH,
    ) -> None:
        super().__init__(distance, reduction)
        if len(set(num_samples)) < max(len(num_samples), 1) or min(num_samples) < 1:
            raise ValueError(
                f"num_samples must be one or more different numbers of at least 1, got {list(num_samples)}."
            )
        self.num_samples = tuple(num_samples)
        self.names = [f"ged_{n}" for n in num_samples]

    def _compute_tensor(
        self, y_pred: torch.Tensor, y: torch.Tensor, y_weights: torch.Tensor | None = None
    ) -> torch.Tensor:
        """One value per item and number of samples, ``[B, K]``."""
        return compute_energy_distance_curve(y_pred, y, self.num_samples, self.distance, y_weights=y_weights)


@check_arguments
def compute_energy_distance_curve(
    y_pred: torch.Tensor,
    y: torch.Tensor,
    num_samples: Sequence[int],
    distance: LabelMapDistance | int,
    *,
    y_weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """
    Compute the generalized energy distance of the first n samples for several n, per item of the batch.

    Each equals :py:func:`~.energy_distance.compute_generalized_energy_distance` of these samples; the distances of all
    pairs are computed once.

    Args:
        y_pred: sampled label maps ``[B, N, *S]``.
        y: the raters' label maps ``[B, R, *S]``.
        num_samples: the K numbers of samples.
        distance: between two label maps, or the number of classes, see
            :py:class:`~.pairwise_distance.LabelMapDistance`. A voxel that is void in any map of an item is left out for
            this item, also for the first samples alone.
        y_weights: ``[B, R]``; None: uniform; 0 for a missing rater.

    Returns:
        ``[B, K]``.

    Raises:
        ValueError: when a number is below 1 or above N, shapes do not match, or weights are wrong.

    Example::

        >>> maps = torch.tensor([[[1, 0, 0, 0], [1, 1, 0, 0]]])
        >>> compute_energy_distance_curve(maps, maps, (1, 2), 2)
        tensor([[0.2500, 0.0000]])
    """
    distance = as_distance(distance)
    pairs = counted_pairs(y_pred, y, None, y_weights, distance)
    total = y_pred.shape[1]
    if len(set(num_samples)) < max(len(num_samples), 1):
        raise ValueError(f"num_samples must be one or more different numbers, got {list(num_samples)}.")
    if outside := [n for n in num_samples if not 1 <= n <= total]:
        raise ValueError(f"num_samples must lie in 1 to {total}, the samples in y_pred, got {outside}.")
    values = []
    for samples, _, raters, q in pairs:
        d = distance({"y_pred": samples, "y": raters})
        to_raters = (d[:total, total:] * q).sum(1)
        spread = mean_distance(d[total:, total:], q, q)
        values.append(torch.stack([2 * to_raters[:n].mean() - d[:n, :n].mean() - spread for n in num_samples]))
    return torch.stack(values)
