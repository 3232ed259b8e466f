# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.utils import MetricReduction

from .map_sets import counted_pairs
from .metric import ItemMetric

__all__ = ["AmbiguityAccuracyMetric", "check_classes", "compute_ambiguity"]

# Shares are sums of weights: one that differs less from the threshold equals it.
_ROUNDING = 1e-6


class AmbiguityAccuracyMetric(ItemMetric):
    """
    Share of the images for which the samples say rightly whether the raters disagree on a structure's presence.

    An image is ambiguous where some raters show the structure and some do not. It is predicted to be ambiguous where
    the share of the samples that show it lies in the open interval ``(threshold, 1 - threshold)``: by default, where
    both kinds of sample occur. The question is that of appendix E of Kohl et al., A Probabilistic U-Net for
    Segmentation of Ambiguous Images, NeurIPS 2018. Compare with the share of ambiguous images in the data: a constant
    answer has that accuracy.

    Called as :py:class:`~.energy_distance.GeneralizedEnergyDistanceMetric`, weights included. The shares:
    :py:func:`compute_ambiguity`.

    Args:
        threshold: a share of the samples that does not count as disagreement, in [0, 0.5).
        classes: the classes of the structure.
        reduction: see :py:class:`~.metric.ItemMetric`.
        get_not_nans: see :py:class:`~.metric.ItemMetric`.

    Raises:
        ValueError: when ``threshold`` is outside [0, 0.5) or there is no class.

    Example::

        >>> metric = AmbiguityAccuracyMetric()
        >>> metric(torch.tensor([[[0, 1], [0, 0]]]), torch.tensor([[[1, 1], [0, 1], [0, 0]]]))
        tensor([[1.]])
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

    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor, **weights: torch.Tensor | None) -> torch.Tensor:
        """1 or 0 per item, ``[B, 1]``."""
        shares = compute_ambiguity(y_pred, y, classes=self.classes, **weights)
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
        classes: the classes of the structure; any other label, that of void voxels too, does not show it.
        y_pred_weights: ``[B, N]``, non-negative, see :py:func:`monai_stochseg.distributions.check_weights`; None:
            uniform. A map of weight 0 may hold anything.
        y_weights: ``[B, R]``, likewise; 0 for a missing rater.

    Returns:
        ``[B, 2]``, in [0, 1], samples and then raters, in PyTorch's default dtype, on the device of ``y_pred``.

    Raises:
        TypeError: when ``y_pred`` or ``y`` is no tensor.
        ValueError: when shapes do not match, a label is no integer, ``y`` is one-hot, there is no class, or
            weights are wrong.

    Example::

        >>> samples, raters = torch.tensor([[[0, 1], [0, 0]]]), torch.tensor([[[1, 1], [0, 1], [0, 0], [0, 0]]])
        >>> compute_ambiguity(samples, raters, y_weights=torch.tensor([[1, 1, 1, 0]]))
        tensor([[0.5000, 0.6667]])
    """
    check_classes(classes)
    pairs = counted_pairs(y_pred, y, y_pred_weights, y_weights)
    return torch.stack(
        [torch.stack([_share(samples, p, classes), _share(raters, q, classes)]) for samples, p, raters, q in pairs]
    )


def _share(maps: Sequence[torch.Tensor], weights: torch.Tensor, classes: Sequence[int]) -> torch.Tensor:
    shows = [torch.isin(row, torch.tensor(classes, device=row.device)).any() for row in maps]
    return (weights * torch.stack(shows)).sum() / weights.sum()


def check_classes(classes: Sequence[int]) -> None:
    """Raise a ValueError when a structure has no class."""
    if not classes:
        raise ValueError("classes must name at least one class of the structure, got none.")
