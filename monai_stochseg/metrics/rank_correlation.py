# SPDX-License-Identifier: Apache-2.0
"""Over the images of a data set: do the samples differ where the raters do?"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from scipy.stats import spearmanr

from monai_stochseg.distributions.arguments import check_arguments

from .ambiguity import check_classes, compute_ambiguity
from .label_maps import check_label_maps, refuse_channels_as_raters
from .pairwise_distance import LabelMapDistance, as_distance
from .pooled_metric import PooledMetric
from .sample_diversity import diversity

__all__ = ["DiversityCorrelationMetric", "EmptyFractionCorrelationMetric", "compute_rank_correlation"]

# Decimals to which values are ranked: beyond them equal sums of floating-point numbers differ.
_DECIMALS = 6


class DiversityCorrelationMetric(PooledMetric):
    """
    Spearman's rank correlation, over the items, of the samples' diversity with the raters' own.

    It finds a method whose samples differ as much as the raters on average, but not on the same images. Called as
    :py:class:`~.energy_distance.GeneralizedEnergyDistanceMetric`, weights included. The buffer is ``[items, 2]`` with
    columns :py:attr:`names`, each by :py:func:`~.sample_diversity.compute_sample_diversity`; the value:
    :py:func:`compute_rank_correlation`.

    Args:
        distance: between two label maps, or the number of classes, see
            :py:class:`~.pairwise_distance.LabelMapDistance`.
        self_pairs: whether the pairs of a map with itself count. It changes the ranks only where items differ in their
            number of samples or raters.

    Example::

        >>> metric = DiversityCorrelationMetric(2)
        >>> maps = torch.tensor([[[0, 1, 1, 0], [0, 0, 1, 1]], [[0, 1, 1, 0], [0, 1, 0, 0]]])
        >>> metric(maps, maps.flip(1))
        tensor([[0.3333, 0.3333],
                [0.2500, 0.2500]])
        >>> metric.aggregate()
        tensor(1.)
    """

    weighted = ("y_pred", "y")

    names = ("sample_diversity", "rater_diversity")

    @check_arguments
    def __init__(self, distance: LabelMapDistance | int, self_pairs: bool = True) -> None:
        super().__init__()
        self.distance = as_distance(distance)
        self.self_pairs = self_pairs

    def _compute_tensor(
        self,
        y_pred: torch.Tensor,
        y: torch.Tensor,
        y_pred_weights: torch.Tensor | None = None,
        y_weights: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Diversity of samples and raters, ``[B, 2]``."""
        y_pred, y = check_label_maps(y_pred=y_pred, y=y)
        sets = (("y_pred", y_pred, y_pred_weights), ("y", y, y_weights))
        values = [diversity(name, maps, self.distance, self.self_pairs, weights) for name, maps, weights in sets]
        refuse_channels_as_raters(y, y_weights, self.distance.num_classes, self.distance.ignore_index)
        return torch.stack(values, dim=1)

    def _pool(self, rows: torch.Tensor) -> torch.Tensor:
        return compute_rank_correlation(rows)


class EmptyFractionCorrelationMetric(PooledMetric):
    """
    Spearman's rank correlation, over the items, of the share of samples without a structure with that of raters.

    Called as :py:class:`~.ambiguity.AmbiguityAccuracyMetric`. The buffer is ``[items, 2]`` with columns
    :py:attr:`names`, each 1 less the share of :py:func:`~.ambiguity.compute_ambiguity`; the value:
    :py:func:`compute_rank_correlation`.

    Args:
        classes: the classes of the structure.
        ignore_index: label of void voxels, see :py:func:`~.ambiguity.compute_ambiguity`.

    Raises:
        ValueError: when there is no class.

    Example::

        >>> metric = EmptyFractionCorrelationMetric()
        >>> maps = torch.tensor([[[0, 0], [0, 1]], [[0, 1], [1, 1]]])
        >>> metric(maps, maps)
        tensor([[0.5000, 0.5000],
                [0.0000, 0.0000]])
        >>> metric.aggregate()
        tensor(1.)
    """

    weighted = ("y_pred", "y")

    names = ("sample_empty_fraction", "rater_empty_fraction")

    @check_arguments
    def __init__(self, classes: Sequence[int] = (1,), ignore_index: int | None = None) -> None:
        super().__init__()
        check_classes(classes)
        self.classes = classes
        self.ignore_index = ignore_index

    def fractions(self) -> torch.Tensor:
        """
        The empty fractions of all items met since the last ``reset``, over all processes.

        Returns:
            ``[items, 2]``, of samples and then of raters.

        Raises:
            ValueError: when the metric has not been called since the last ``reset``.
        """
        return self._rows()

    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor, **weights: torch.Tensor | None) -> torch.Tensor:
        """Empty fraction of samples and raters, ``[B, 2]``."""
        return 1 - compute_ambiguity(y_pred, y, classes=self.classes, ignore_index=self.ignore_index, **weights)

    def _pool(self, rows: torch.Tensor) -> torch.Tensor:
        return compute_rank_correlation(rows)


@check_arguments
def compute_rank_correlation(pairs: torch.Tensor) -> torch.Tensor:
    """
    Compute Spearman's rank correlation of pairs of values, by :py:func:`scipy.stats.spearmanr`.

    Args:
        pairs: ``[items, 2]``. Values are compared to six decimals, ties share their mean rank, and an item with an
            undefined value (NaN) is left out.

    Returns:
        a scalar in [-1, 1], in the dtype and on the device of ``pairs``; NaN where the values of a column are all the
        same or fewer than two items are left.

    Raises:
        ValueError: when ``pairs`` has another shape.

    Example::

        >>> compute_rank_correlation(torch.tensor([[0.1, 0.2], [0.3, 0.3], [0.2, 0.4]]))
        tensor(0.5000)
    """
    if pairs.ndim != 2 or pairs.shape[1] != 2:
        raise ValueError(f"pairs must have shape [items, 2], got {tuple(pairs.shape)}.")
    defined = pairs[~pairs.isnan().any(1)].double().round(decimals=_DECIMALS).cpu().numpy()
    constant = len(defined) < 2 or (defined == defined[0]).all(0).any()  # of which SciPy warns
    value = math.nan if constant else spearmanr(defined[:, 0], defined[:, 1]).statistic
    return pairs.new_tensor(value)
