# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import torch
from monai.utils import MetricReduction

from monai_stochseg.distributions import check_weights
from monai_stochseg.distributions.arguments import check_arguments, check_at_least

from .distance_metric import DistanceMetric
from .label_maps import check_label_maps
from .map_sets import counted_pairs
from .pairwise_distance import LabelMapDistance, as_distance

__all__ = ["RaterDiceMetric", "compute_rater_dice"]


class RaterDiceMetric(DistanceMetric):
    """
    Mean Dice over all pairs of a sample and a rater.

    What is computed: :py:func:`compute_rater_dice`, with one map in ``y_pred`` for a single answer. Called as
    :py:class:`~.distance_metric.DistanceMetric`; the overlap is Dice, whatever that of the distance.

    Args:
        distance: see :py:class:`~.distance_metric.DistanceMetric`, as the last two.
        nonempty_raters: whether only raters who drew something count.
        rater: index of the one rater who counts; None: all. An item whose rater is missing is undefined.
        reduction: how to reduce the items.
        get_not_nans: whether ``aggregate`` returns the number of defined items too.

    Raises:
        ValueError: when an option is unknown.

    Example::

        >>> metric = RaterDiceMetric(2, nonempty_raters=True)
        >>> metric(torch.tensor([[[0, 1, 1, 0]]]), torch.tensor([[[0, 0, 0, 0], [0, 0, 1, 1]]]))
        tensor([[0.5000]])
    """

    overlap = "dice"

    @check_arguments
    def __init__(
        self,
        distance: LabelMapDistance | int,
        nonempty_raters: bool = False,
        reduction: MetricReduction | str = MetricReduction.MEAN,
        get_not_nans: bool = False,
        rater: int | None = None,
    ) -> None:
        super().__init__(distance, reduction, get_not_nans)
        if rater is not None:
            check_at_least(0, rater=rater)
        self.nonempty_raters = nonempty_raters
        self.rater = rater

    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor, **weights: torch.Tensor | None) -> torch.Tensor:
        """One value per item, ``[B, 1]``."""
        values = compute_rater_dice(
            y_pred, y, self.distance, nonempty_raters=self.nonempty_raters, rater=self.rater, **weights
        )
        return values.unsqueeze(1)


@check_arguments
def compute_rater_dice(
    y_pred: torch.Tensor,
    y: torch.Tensor,
    distance: LabelMapDistance | int,
    *,
    nonempty_raters: bool = False,
    rater: int | None = None,
    y_pred_weights: torch.Tensor | None = None,
    y_weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """
    Compute the mean Dice over all pairs of a sample and a rater, per item of the batch.

    On LIDC a reader who marked nothing gave an empty map, and both forms are useful. Over all raters, with a Dice of 1
    for two empty maps, it rewards the right share of empty samples. Over the raters who drew something
    (``nonempty_raters=True``) it is the quality of the outline, and an empty sample has a Dice of 0. MONAI's Dice, in
    :py:class:`~.region_dice.RegionDiceMetric`, never counts a rater without the class.

    Args:
        y_pred: sampled label maps ``[B, N, *S]``, as in
            :py:func:`~.energy_distance.compute_generalized_energy_distance`.
        y: the raters' label maps ``[B, R, *S]``.
        distance: see :py:class:`RaterDiceMetric`. With ``empty="ignore"`` a pair with no class left is left out of the
            mean over the pairs.
        nonempty_raters: count only raters who gave a voxel one of the classes that take part, the background excepted.
        rater: index of the one rater who counts; None: all raters.
        y_pred_weights: ``[B, N]``; None: uniform.
        y_weights: ``[B, R]``; 0 for a missing rater.

    Returns:
        ``[B]``, in [0, 1], in PyTorch's default dtype, on the device of ``y_pred``. NaN where no pair is left,
        or the one ``rater`` is missing.

    Raises:
        TypeError: when ``y_pred`` or ``y`` is no tensor.
        ValueError: when shapes do not match, a label is outside the classes, ``y`` is one-hot, or weights are
            wrong.

    Example::

        >>> compute_rater_dice(torch.tensor([[[0, 1, 1, 0]]]), torch.tensor([[[0, 0, 0, 0], [0, 0, 1, 1]]]), 2)
        tensor([0.2500])
    """
    distance = as_distance(distance, "dice")
    present = None if rater is None else _positive(rater, y, y_weights)
    foreground = torch.tensor([c for c in distance.compared if c > 0], device=y.device)
    values = []
    sets = counted_pairs(y_pred, y, y_pred_weights, y_weights, distance)
    for item, (samples, p, raters, q) in enumerate(sets):
        dice = 1 - distance({"y_pred": samples, "y": raters})[: len(p), len(p) :]
        if present is not None and rater is not None:
            q = _alone(q, present[item], rater)
        if nonempty_raters:
            q = q * torch.stack([torch.isin(rater, foreground).any() for rater in raters])
        pairs = torch.outer(p, q) * ~dice.isnan()
        values.append((pairs * dice.nan_to_num()).sum() / pairs.sum())
    return torch.stack(values)


def _positive(rater: int, y: torch.Tensor, y_weights: torch.Tensor | None) -> torch.Tensor:
    """Which raters are there, ``[B, R]``; a ValueError where there is no such rater."""
    (y,) = check_label_maps(y=y)
    if not 0 <= rater < y.shape[1]:
        raise ValueError(f"rater must be one of the {y.shape[1]} raters of y, 0 to {y.shape[1] - 1}, got {rater}.")
    return check_weights(y_weights, y, "y_weights", "y") > 0


def _alone(q: torch.Tensor, present: torch.Tensor, rater: int) -> torch.Tensor:
    """The weights of those who are there, all on one rater; none where that one is missing."""
    weights = torch.zeros_like(q)
    if present[rater]:
        weights[present[:rater].sum()] = 1
    return weights
