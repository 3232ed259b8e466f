# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict

import torch
from monai.utils import MetricReduction
from scipy.optimize import linear_sum_assignment

from monai_stochseg.distributions import check_weights

from .map_sets import weighted_maps
from .metric import ItemMetric
from .pairwise_distance import LabelMapDistance, check_label_maps

__all__ = ["HungarianMatchedIoUMetric", "compute_hungarian_matched_iou"]

# Relative difference of weights that are equal up to rounding.
_ROUNDING = 1e-5

# Pivots of the network simplex, far more than the sets of a metric need.
_MAX_ITERATIONS = 10**7


class HungarianMatchedIoUMetric(ItemMetric):
    """
    Hungarian-matched IoU between sampled label maps and those of the raters.

    ``y_pred`` are samples ``[B, N, *S]`` and ``y`` raters ``[B, R, *S]``, or both lists of B items, in which N and R
    may differ between items. Weights are passed by keyword, ``y_pred_weights`` and ``y_weights``. What is computed:
    :py:func:`compute_hungarian_matched_iou`.

    Args:
        num_classes: number of classes, the background included.
        include_background: whether class 0 takes part, see :py:class:`~.pairwise_distance.LabelMapDistance`.
        empty: ``"agree"`` or ``"ignore"``, what a class that is empty in both maps is worth.
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
        empty: str = "agree",
        ignore_index: int | None = None,
        reduction: MetricReduction | str = MetricReduction.MEAN,
        get_not_nans: bool = False,
        classes: Sequence[int] | None = None,
    ) -> None:
        super().__init__(reduction, get_not_nans)
        self.pairwise = LabelMapDistance(num_classes, include_background, "iou", empty, ignore_index, classes)

    def _compute_tensor(
        self,
        y_pred: torch.Tensor,
        y: torch.Tensor,
        y_pred_weights: torch.Tensor | None = None,
        y_weights: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """One value per item, ``[B, 1]``."""
        options = asdict(self.pairwise)
        del options["distance"]
        return compute_hungarian_matched_iou(
            y_pred, y, **options, y_pred_weights=y_pred_weights, y_weights=y_weights
        ).unsqueeze(1)


def compute_hungarian_matched_iou(
    y_pred: torch.Tensor,
    y: torch.Tensor,
    *,
    num_classes: int,
    include_background: bool = False,
    classes: Sequence[int] | None = None,
    empty: str = "agree",
    y_pred_weights: torch.Tensor | None = None,
    y_weights: torch.Tensor | None = None,
    ignore_index: int | None = None,
) -> torch.Tensor:
    """
    Compute the mean IoU of samples and raters matched in the best way, per item of the batch.

    ``max_P sum_ij P_ij IoU(s_i, y_j)`` over the couplings P of the weights of samples and raters. Where the weights of
    each set are equal and one size divides the other, the best coupling is a matching one to one of the greater set to
    the repeated smaller one, found by the Hungarian algorithm (SciPy): introduced by Kohl et al., A Hierarchical
    Probabilistic U-Net for Modeling Multi-Scale Ambiguities, 2019; with repeated sets in Kassapis et al., Calibrated
    Adversarial Refinement for Stochastic Semantic Segmentation, ICCV 2021. For other sizes these repeat both sets to
    the least common multiple, which has the same value. Otherwise it is a transport problem, solved exactly by the
    network simplex (POT), as in Gao et al., Modeling Multimodal Aleatoric Uncertainty in Segmentation with Mixture of
    Stochastic Experts, ICLR 2023.

    Args:
        y_pred: sampled label maps ``[B, N, *S]`` of integers in any type, floating types included.
        y: the raters' label maps ``[B, R, *S]``.
        num_classes: number of classes, the background included.
        include_background: whether class 0 takes part, see :py:class:`~.pairwise_distance.LabelMapDistance`.
        classes: the classes that take part; None: all.
        empty: ``"agree"``: the IoU of a class that is empty in both maps is 1; ``"ignore"``: it is left out.
        y_pred_weights: ``[B, N]``, at least 0, summing to 1 over N; None: uniform.
        y_weights: ``[B, R]``, likewise. A map of weight 0, as that of a missing rater, is not looked at.
        ignore_index: the label of void voxels; a voxel void in any map of an item is left out for this item.

    Returns:
        ``[B]``, in [0, 1], in PyTorch's default dtype, on the device of ``y_pred``. NaN where a pair of positive weight
        has no IoU (``empty="ignore"``).

    Raises:
        TypeError: when ``y_pred`` or ``y`` is no tensor.
        ValueError: when shapes do not match, a label is outside the classes, weights are none, or an option is unknown.
        RuntimeError: when the transport problem's solver does not reach the optimum.
    """
    pairwise = LabelMapDistance(num_classes, include_background, "iou", empty, ignore_index, classes)
    y_pred, y = check_label_maps(y_pred=y_pred, y=y)
    s_weights = check_weights(y_pred_weights, y_pred, "y_pred_weights")
    r_weights = check_weights(y_weights, y, "y_weights")
    values = []
    for samples, raters, p, q in zip(y_pred, y, s_weights, r_weights, strict=True):
        d = pairwise({"y_pred": weighted_maps(samples, p), "y": weighted_maps(raters, q)})
        p, q = p[p > 0], q[q > 0]
        d = d[: len(p), len(p) :]
        values.append(d.new_tensor(math.nan if d.isnan().any() else 1 - _least_cost(d, p, q)))
    return torch.stack(values)


def _least_cost(cost: torch.Tensor, p: torch.Tensor, q: torch.Tensor) -> float:
    """The least mean of a cost ``[N, R]`` over the couplings of positive weights ``[N]`` and ``[R]``."""
    n, r = cost.shape
    size = max(n, r)
    if size % min(n, r) == 0 and _equal(p) and _equal(q):
        square = cost.repeat_interleave(size // n, 0).repeat_interleave(size // r, 1).cpu().numpy()
        return square[linear_sum_assignment(square)].mean()
    import ot  # takes most of a second, for such weights alone

    p_, q_, cost_ = (x.double().cpu().numpy() for x in (p, q, cost))
    _, log = ot.emd(p_ / p_.sum(), q_ / q_.sum(), cost_, numItermax=_MAX_ITERATIONS, log=True)
    if log["warning"] is not None:
        raise RuntimeError(f"the transport problem of {n} samples and {r} raters has not been solved: {log['warning']}")
    return log["cost"]


def _equal(weights: torch.Tensor) -> bool:
    return bool((weights - weights[0]).abs().max() <= _ROUNDING * weights[0])
