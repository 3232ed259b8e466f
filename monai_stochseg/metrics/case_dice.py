# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from monai.utils import MetricReduction

from monai_stochseg.distributions import check_weights
from monai_stochseg.distributions.arguments import check_arguments

from .label_maps import check_label_maps
from .metric import ItemMetric
from .region_dice import BRATS_REGIONS, classes_of, compute_region_dice

__all__ = ["CaseDiceMetric", "compute_case_dice"]

_QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)
# Sums of weights: one that differs less from a quantile equals it.
_ROUNDING = 1e-6


@check_arguments
def compute_case_dice(
    y_pred: torch.Tensor,
    y: torch.Tensor,
    regions: Mapping[str, Sequence[int]],
    *,
    y_pred_weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """
    Compare a case's samples with its single answer by the Dice averaged over the regions (Monteiro et al. 2020,
    https://arxiv.org/abs/2006.06015, figure 5).

    A map has one value: its Dice of each region, see :py:func:`~.region_dice.compute_region_dice`, averaged over the
    regions that a rater drew. A sample that is better in one region and worse in another is compared once, unlike in
    :py:func:`~.region_dice.compute_sample_dice`.

    Args:
        y_pred: the single answer and then the samples, ``[B, 1 + N, *S]``.
        y: raters' label maps ``[B, R, *S]``.
        regions: name and classes of each region; in the paper the classes of the tumour.
        y_pred_weights: ``[B, 1 + N]``; that of the single answer is not read. None: samples weigh the same.

    Returns:
        ``[B, 7]``: value of the single answer, share of samples whose value is greater, and the samples' minimum, lower
        quartile, median, upper quartile and maximum. A quantile q is the least value up to which a share q of the
        samples lies. NaN where no rater drew a region.

    Raises:
        ValueError: when there is no sample, weights are wrong, or as in :py:func:`~.region_dice.compute_region_dice`.

    Example::

        >>> maps = torch.tensor([[[[0, 1], [1, 1]], [[0, 1], [0, 1]], [[0, 0], [0, 1]]]])
        >>> compute_case_dice(maps, torch.tensor([[[[0, 1], [0, 1]]]]), {"whole": (1,)})
        tensor([[0.8000, 0.5000, 0.6667, 0.6667, 0.6667, 1.0000, 1.0000]])
    """
    y_pred, y = check_label_maps(y_pred=y_pred, y=y)
    if y_pred.shape[1] < 2:
        raise ValueError(f"y_pred must hold the single answer and at least one sample, got {y_pred.shape[1]} map.")
    values = compute_region_dice(y_pred, y, regions).nanmean(2)
    mode, samples = values[:, :1], values[:, 1:]
    if y_pred_weights is not None:
        y_pred_weights = check_weights(y_pred_weights, y_pred, "y_pred_weights", "y_pred")[:, 1:]
    weights = check_weights(y_pred_weights, y_pred[:, 1:], "y_pred_weights", "the samples of y_pred").to(samples)
    better = (weights * (samples > mode)).sum(1, keepdim=True)
    ordered, order = torch.where(weights > 0, samples, torch.inf).sort(1)
    reached = weights.gather(1, order).cumsum(1)
    counted = (weights > 0).sum(1, keepdim=True)
    wanted = reached.new_tensor(_QUANTILES).expand(len(reached), -1) - _ROUNDING
    index = torch.searchsorted(reached.contiguous(), wanted.contiguous()).clamp(max=counted - 1)
    result = torch.cat([mode, better, ordered.gather(1, index)], dim=1)
    return result.masked_fill(mode.isnan(), torch.nan)


class CaseDiceMetric(ItemMetric):
    """
    A case's samples beside its single answer by the Dice averaged over the regions.

    What is computed: :py:func:`compute_case_dice`. The buffer is ``[cases, 7]`` with columns :py:attr:`names`, of which
    :py:func:`monai_stochseg.visualize.plot_case_dice` draws the figure.

    Args:
        regions: name and classes of each region; the default is BraTS's.
        reduction: MONAI's metric reduction over ``[B, 7]``; the default is the mean of each column over the cases.

    Raises:
        ValueError: when there is no region.

    Example::

        >>> metric = CaseDiceMetric({"whole": (1,)})
        >>> maps = torch.tensor([[[[0, 1], [1, 1]], [[0, 1], [0, 1]], [[0, 0], [0, 1]]]])
        >>> _ = metric(maps, torch.tensor([[[[0, 1], [0, 1]]]]))
        >>> dict(zip(metric.names[:2], metric.aggregate()[:2].tolist()))
        {'case_dice': 0.800000011920929, 'case_better_than_mode': 0.5}
    """

    weighted = ("y_pred",)

    names = (
        *("case_dice", "case_better_than_mode", "case_dice_min", "case_dice_q25", "case_dice_median", "case_dice_q75"),
        "case_dice_max",
    )

    @check_arguments
    def __init__(
        self,
        regions: Mapping[str, Sequence[int]] = BRATS_REGIONS,
        reduction: MetricReduction | str = MetricReduction.MEAN_BATCH,
    ) -> None:
        super().__init__(reduction)
        classes_of(regions)
        self.regions = regions

    def rows(self) -> torch.Tensor:
        """
        The values of all cases met since the last ``reset``, over all processes, ``[cases, 7]``.

        Raises:
            ValueError: when the metric has not been called since the last ``reset``.
        """
        values = self.get_buffer()
        if not isinstance(values, torch.Tensor):
            raise ValueError(f"there is nothing to show: call {self} on at least one batch first.")
        return values

    def _compute_tensor(
        self, y_pred: torch.Tensor, y: torch.Tensor, y_pred_weights: torch.Tensor | None = None
    ) -> torch.Tensor:
        """``[B, 7]``."""
        return compute_case_dice(y_pred, y, self.regions, y_pred_weights=y_pred_weights)
