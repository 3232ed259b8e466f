# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import torch
from monai.utils import MetricReduction

from monai_stochseg.distributions.arguments import check_arguments

from .distance_metric import DistanceMetric
from .map_sets import check_self_pairs, counted_pairs, mean_distance
from .pairwise_distance import LabelMapDistance, as_distance

__all__ = ["GeneralizedEnergyDistanceMetric", "compute_generalized_energy_distance"]


class GeneralizedEnergyDistanceMetric(DistanceMetric):
    """
    Generalized energy distance between the distribution of sampled label maps and that of the raters.

    What is computed: :py:func:`compute_generalized_energy_distance`. Called as
    :py:class:`~.distance_metric.DistanceMetric`.

    In an engine: ``IgniteMetricHandler(metric_fn=GeneralizedEnergyDistanceMetric(4),
    output_transform=from_engine(["samples", "label"]))``.

    Args:
        distance: see :py:class:`~.distance_metric.DistanceMetric`, as the last two.
        self_pairs: whether the pairs of a map with itself count.
        reduction: how to reduce the items.
        get_not_nans: whether ``aggregate`` returns the number of defined items too.

    Raises:
        ValueError: when an option is unknown.

    Example::

        >>> metric = GeneralizedEnergyDistanceMetric(LabelMapDistance(num_classes=2, empty="ignore"))
        >>> samples, raters = torch.tensor([[[0, 1, 1, 0]]]), torch.tensor([[[0, 1, 1, 0], [0, 0, 1, 1]]])
        >>> metric(samples, raters)
        tensor([[0.3333]])
        >>> metric.aggregate()
        tensor([0.3333])
    """

    @check_arguments
    def __init__(
        self,
        distance: LabelMapDistance | int,
        self_pairs: bool = True,
        reduction: MetricReduction | str = MetricReduction.MEAN,
        get_not_nans: bool = False,
    ) -> None:
        super().__init__(distance, reduction, get_not_nans)
        self.self_pairs = self_pairs

    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor, **weights: torch.Tensor | None) -> torch.Tensor:
        """One value per item, ``[B, 1]``."""
        return compute_generalized_energy_distance(
            y_pred, y, self.distance, self_pairs=self.self_pairs, **weights
        ).unsqueeze(1)


@check_arguments
def compute_generalized_energy_distance(
    y_pred: torch.Tensor,
    y: torch.Tensor,
    distance: LabelMapDistance | int,
    *,
    self_pairs: bool = True,
    y_pred_weights: torch.Tensor | None = None,
    y_weights: torch.Tensor | None = None,
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
        distance: between two label maps, or the number of classes, see
            :py:class:`~.pairwise_distance.LabelMapDistance`. The papers use the default, on Cityscapes
            ``empty="ignore"``.
        self_pairs: True takes s = s' and y = y' into the means (V-statistic, the papers; biased, never negative for a
            distance of negative type); False leaves these pairs out (U-statistic, unbiased, may be negative).
        y_pred_weights: ``[B, N]``, non-negative, see :py:func:`monai_stochseg.distributions.check_weights`; None:
            uniform. A map of weight 0 may hold anything.
        y_weights: ``[B, R]``, likewise; 0 for a missing rater.

    Returns:
        ``[B]``, in PyTorch's default dtype, on the device of ``y_pred``. NaN where a pair of maps has no distance
        (``empty="ignore"``), all voxels are void, or ``self_pairs=False`` and only one map has a weight.

    Raises:
        TypeError: when ``y_pred`` or ``y`` is no tensor.
        ValueError: when shapes do not match, a label is outside the classes, ``y`` is one-hot, weights are wrong,
            or ``self_pairs=False`` and there are fewer than two samples or raters.

    Example::

        >>> a, b = [0, 1, 1, 0], [0, 0, 1, 1]
        >>> compute_generalized_energy_distance(torch.tensor([[a, b]]), torch.tensor([[b]]), 2)
        tensor([0.3333])
    """
    distance = as_distance(distance)
    pairs = counted_pairs(y_pred, y, y_pred_weights, y_weights, distance)
    check_self_pairs(self_pairs, y_pred=y_pred, y=y)
    values = []
    for samples, p, raters, q in pairs:
        d = distance({"y_pred": samples, "y": raters})
        n = len(p)
        values.append(
            2 * mean_distance(d[:n, n:], p, q)
            - mean_distance(d[:n, :n], p, p, self_pairs)
            - mean_distance(d[n:, n:], q, q, self_pairs)
        )
    return torch.stack(values)
