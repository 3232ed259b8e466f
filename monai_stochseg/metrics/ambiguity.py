# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.utils import MetricReduction

from monai_stochseg.distributions import check_weights

from .metric import ItemMetric
from .pairwise_distance import check_label_maps

__all__ = ["AmbiguityAccuracyMetric", "check_classes", "compute_ambiguity"]

# Shares are sums of weights: one that differs less from the threshold equals it.
_ROUNDING = 1e-6


class AmbiguityAccuracyMetric(ItemMetric):
    """
    Share of the images of which the samples tell rightly whether the raters disagree on a structure's presence.

    An image is ambiguous where some raters show the structure and some do not. It is predicted so where the share of
    the samples that show it lies in the open interval ``(threshold, 1 - threshold)``: by default, where both kinds of
    sample occur. The question is that of appendix E of Kohl et al., A Probabilistic U-Net for Segmentation of Ambiguous
    Images, NeurIPS 2018. Mind the share of ambiguous images in the data: a constant answer has that accuracy.

    ``y_pred`` are samples ``[B, N, *S]`` and ``y`` raters ``[B, R, *S]``, or both lists of B items, in which N and R
    may differ; ``y_pred_weights`` and ``y_weights`` by keyword. The shares: :py:func:`compute_ambiguity`.

    Args:
        threshold: a share of the samples that does not count as disagreement, in [0, 0.5).
        classes: the classes of the structure.
        reduction: see :py:class:`~.metric.ItemMetric`.
        get_not_nans: see :py:class:`~.metric.ItemMetric`.

    Raises:
        ValueError: when ``threshold`` is outside [0, 0.5) or there is no class.
    """

    weighted = ("y_pred", "y")

    def __init__(
        self,
        threshold: float = 0.0,
        classes: Sequence[int] = (1,),
        reduction: MetricReduction | str = MetricReduction.MEAN,
        get_not_nans: bool = False,
    ) -> None:
        super().__init__(reduction, get_not_nans)
        if not 0 <= threshold < 0.5:
            raise ValueError(f"threshold must lie in [0, 0.5), got {threshold}.")
        check_classes(classes)
        self.threshold = threshold
        self.classes = classes

    def _compute_tensor(
        self,
        y_pred: torch.Tensor,
        y: torch.Tensor,
        y_pred_weights: torch.Tensor | None = None,
        y_weights: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """1 or 0 per item, ``[B, 1]``."""
        shares = compute_ambiguity(y_pred, y, classes=self.classes, y_pred_weights=y_pred_weights, y_weights=y_weights)
        predicted, truth = torch.minimum(shares, 1 - shares).unbind(1)
        correct = (predicted > self.threshold + _ROUNDING) == (truth > _ROUNDING)
        return correct.to(shares).unsqueeze(1)


def compute_ambiguity(
    y_pred: torch.Tensor,
    y: torch.Tensor,
    *,
    classes: Sequence[int] = (1,),
    y_pred_weights: torch.Tensor | None = None,
    y_weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """
    Compute the share of the samples, and of the raters, that show a structure at all, per item of the batch.

    Args:
        y_pred: sampled label maps ``[B, N, *S]`` of integers in any type, floating types included.
        y: the raters' label maps ``[B, R, *S]``.
        classes: the classes of the structure; any other label is not it.
        y_pred_weights: ``[B, N]``, at least 0, summing to 1 over N; None: uniform.
        y_weights: ``[B, R]``, likewise, 0 for a missing rater.

    Returns:
        ``[B, 2]``, in [0, 1], samples and then raters, in PyTorch's default dtype, on the device of ``y_pred``.

    Raises:
        TypeError: when ``y_pred`` or ``y`` is no tensor.
        ValueError: when shapes do not match, there is no class, or weights are none.
    """
    check_classes(classes)
    y_pred, y = check_label_maps(y_pred=y_pred, y=y)
    s_weights = check_weights(y_pred_weights, y_pred, "y_pred_weights")
    r_weights = check_weights(y_weights, y, "y_weights")
    return torch.stack([_share(y_pred, s_weights, classes), _share(y, r_weights, classes)], dim=1)


def _share(maps: torch.Tensor, weights: torch.Tensor, classes: Sequence[int]) -> torch.Tensor:
    shows = torch.isin(maps, torch.tensor(classes, device=maps.device)).flatten(2).any(2)
    return (weights * shows).sum(1) / weights.sum(1)


def check_classes(classes: Sequence[int]) -> None:
    """Raise a ValueError when a structure has no class."""
    if not classes:
        raise ValueError("classes must name at least one class of the structure, got none.")
