# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import ClassVar

from monai.utils import MetricReduction

from monai_stochseg.distributions.arguments import check_arguments

from .metric import ItemMetric
from .pairwise_distance import LabelMapDistance, as_distance

__all__ = ["DistanceMetric"]


class DistanceMetric(ItemMetric):
    """
    Base of the metrics that compare samples with raters by a distance between two label maps.

    ``y_pred`` are samples ``[B, N, *S]`` and ``y`` raters ``[B, R, *S]``, or both lists of B items ``[N, *S]`` and
    ``[R, *S]``, in which N and R may differ between items. Weights are passed by keyword, ``y_pred_weights`` and
    ``y_weights``, or carried by the maps, see :py:class:`~.metric.ItemMetric`. An item whose value is undefined (NaN)
    is left out of the mean over items, and a mean over no defined item is NaN.

    Args:
        distance: between two label maps, or the number of classes, see
            :py:class:`~.pairwise_distance.LabelMapDistance`.
        reduction: see :py:class:`~.metric.ItemMetric`.
        get_not_nans: see :py:class:`~.metric.ItemMetric`.

    Raises:
        ValueError: when an option is unknown.
    """

    weighted: ClassVar[tuple[str, ...]] = ("y_pred", "y")

    # The overlap of a metric that has one of its own, whatever that of the distance.
    overlap: ClassVar[str | None] = None

    @check_arguments
    def __init__(
        self,
        distance: LabelMapDistance | int,
        reduction: MetricReduction | str = MetricReduction.MEAN,
        get_not_nans: bool = False,
    ) -> None:
        super().__init__(reduction, get_not_nans)
        self.distance = as_distance(distance, self.overlap)
