# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import torch
from scipy.optimize import linear_sum_assignment

from monai_stochseg.distributions.arguments import check_arguments

from .distance_metric import DistanceMetric
from .map_sets import counted_pairs
from .pairwise_distance import LabelMapDistance, as_distance

__all__ = ["HungarianMatchedIoUMetric", "compute_hungarian_matched_iou"]

# Relative difference of weights that are equal up to rounding.
_ROUNDING = 1e-5

# Pivots of the network simplex, far more than the sets of a metric need.
_MAX_ITERATIONS = 10**7


class HungarianMatchedIoUMetric(DistanceMetric):
    """
    Hungarian-matched IoU between sampled label maps and those of the raters.

    What is computed: :py:func:`compute_hungarian_matched_iou`. Arguments and call are those of
    :py:class:`~.distance_metric.DistanceMetric`; the overlap is IoU, whatever that of the distance.

    Example::

        >>> metric = HungarianMatchedIoUMetric(2)
        >>> metric(torch.tensor([[[0, 1, 1, 0]]]), torch.tensor([[[0, 1, 1, 0], [0, 0, 1, 1]]]))
        tensor([[0.6667]])
    """

    overlap = "iou"

    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor, **weights: torch.Tensor | None) -> torch.Tensor:
        """One value per item, ``[B, 1]``."""
        return compute_hungarian_matched_iou(y_pred, y, self.distance, **weights).unsqueeze(1)


@check_arguments
def compute_hungarian_matched_iou(
    y_pred: torch.Tensor,
    y: torch.Tensor,
    distance: LabelMapDistance | int,
    *,
    y_pred_weights: torch.Tensor | None = None,
    y_weights: torch.Tensor | None = None,
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
        y_pred: sampled label maps ``[B, N, *S]``, as in
            :py:func:`~.energy_distance.compute_generalized_energy_distance`.
        y: the raters' label maps ``[B, R, *S]``.
        distance: see :py:class:`HungarianMatchedIoUMetric`.
        y_pred_weights: ``[B, N]``; None: uniform.
        y_weights: ``[B, R]``; 0 for a missing rater.

    Returns:
        ``[B]``, in [0, 1], in PyTorch's default dtype, on the device of ``y_pred``. NaN where a pair of maps has no IoU
        (``empty="ignore"``) or all voxels are void.

    Raises:
        TypeError: when ``y_pred`` or ``y`` is no tensor.
        ValueError: when shapes do not match, a label is outside the classes, ``y`` is one-hot, or weights are
            wrong.
        RuntimeError: when the transport problem's solver does not reach the optimum.

    Example::

        >>> a, b = [0, 1, 1, 0], [0, 0, 1, 1]
        >>> compute_hungarian_matched_iou(torch.tensor([[a, b]]), torch.tensor([[b, a]]), 2)
        tensor([1.])
    """
    distance = as_distance(distance, "iou")
    values = []
    for samples, p, raters, q in counted_pairs(y_pred, y, y_pred_weights, y_weights, distance):
        d = distance({"y_pred": samples, "y": raters})[: len(p), len(p) :]
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
