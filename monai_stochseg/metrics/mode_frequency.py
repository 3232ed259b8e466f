# SPDX-License-Identifier: Apache-2.0
"""How often samples fall on each mode of a truth of which all modes are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import torch

from monai_stochseg.distributions import check_weights

from .map_sets import weighted_maps
from .pairwise_distance import LabelMapDistance, check_label_maps
from .pooled_metric import PooledMetric

__all__ = ["ModeFrequencyMetric", "compute_mode_frequency"]

# Decimals to which distances are compared: beyond them equal means of floating-point numbers differ.
_DECIMALS = 6


class ModeFrequencyMetric(PooledMetric):
    """
    Frequency of the samples on each mode of the truth against its probability.

    ``y_pred`` are samples ``[B, N, *S]`` and ``y`` modes ``[B, M, *S]``, such as
    :py:func:`monai_stochseg.transforms.class_switch_modes` lists them, or both lists of B items; the probabilities of
    the modes are ``y_weights``, by keyword or carried by the modes, see :py:class:`~.metric.ItemMetric`. What is
    computed: :py:func:`compute_mode_frequency`. The value is the total variation distance
    ``sum_m |f_m - p_m| / 2`` of the mean frequencies, from 0 to 1. It is above 0 even for samples of the truth, by
    chance, the more so the fewer there are. For a figure: :py:meth:`frequencies`.

    Args:
        num_modes: number of modes M of each item.
        num_classes: number of classes, the background included.
        include_background: whether class 0 takes part, see :py:class:`~.pairwise_distance.LabelMapDistance`.
        distance: ``"iou"`` or ``"dice"``.
        empty: ``"agree"`` or ``"ignore"``, what a class that is empty in both maps is worth.
        ignore_index: the label of void voxels.
        classes: the classes that take part; None: all, see :py:class:`~.pairwise_distance.LabelMapDistance`.

    Raises:
        ValueError: when there are fewer than two modes, an option is unknown or no class takes part.
    """

    weighted = ("y_pred", "y")

    def __init__(
        self,
        num_modes: int,
        num_classes: int,
        include_background: bool = False,
        distance: str = "iou",
        empty: str = "agree",
        ignore_index: int | None = None,
        classes: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        if num_modes < 2:
            raise ValueError(f"num_modes must be at least 2, got {num_modes}: one mode has all samples.")
        self.num_modes = num_modes
        self.pairwise = LabelMapDistance(num_classes, include_background, distance, empty, ignore_index, classes)

    @property
    def names(self) -> list[str]:
        """Names of the columns of the buffer."""
        return [f"{of}_{mode}" for of in ("frequency", "probability") for mode in range(self.num_modes)]

    def frequencies(self) -> torch.Tensor:
        """
        The mean over all items met since the last ``reset``, over all processes.

        Returns:
            ``[2, M]``, frequencies of the modes among the samples and then their probabilities; NaN where no item is
            defined.

        Raises:
            ValueError: when the metric has not been called since the last ``reset``.
        """
        return self._mean(self._rows())

    def _compute_tensor(
        self,
        y_pred: torch.Tensor,
        y: torch.Tensor,
        y_pred_weights: torch.Tensor | None = None,
        y_weights: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Frequencies and probabilities, ``[B, 2 * M]``."""
        if y.shape[1] != self.num_modes:
            raise ValueError(f"y must have the num_modes={self.num_modes} modes of each item, got {y.shape[1]}.")
        return compute_mode_frequency(
            y_pred, y, **asdict(self.pairwise), y_pred_weights=y_pred_weights, y_weights=y_weights
        ).flatten(1)

    def _pool(self, rows: torch.Tensor) -> torch.Tensor:
        frequency, probability = self._mean(rows)
        return (frequency - probability).abs().sum() / 2

    def _mean(self, rows: torch.Tensor) -> torch.Tensor:
        return rows.nanmean(0).unflatten(0, (2, self.num_modes))


def compute_mode_frequency(
    y_pred: torch.Tensor,
    y: torch.Tensor,
    *,
    num_classes: int,
    include_background: bool = False,
    classes: Sequence[int] | None = None,
    distance: str = "iou",
    empty: str = "agree",
    y_pred_weights: torch.Tensor | None = None,
    y_weights: torch.Tensor | None = None,
    ignore_index: int | None = None,
) -> torch.Tensor:
    """
    Compute the share of the samples that each mode is the nearest of, and the modes' probabilities, per item.

    The mode-wise frequencies of Kohl et al., A Probabilistic U-Net for Segmentation of Ambiguous Images, NeurIPS 2018,
    figure 5. Of equally near modes the one of lowest index has the sample, so that of modes which coincide, as where
    an image lacks a class that could have become another, the first has all. The probabilities are counted in the same
    way, each mode being a sample of its probability: those of modes which coincide are the first one's.

    Args:
        y_pred: sampled label maps ``[B, N, *S]`` of integers in any type, floating types included.
        y: the modes ``[B, M, *S]``.
        num_classes: number of classes, the background included.
        include_background: whether class 0 takes part, see :py:class:`~.pairwise_distance.LabelMapDistance`.
        classes: the classes that take part, such as those that could become others and what they become; None: all.
        distance: ``"iou"`` or ``"dice"``.
        empty: ``"agree"`` or ``"ignore"``, what a class that is empty in both maps is worth. Two maps without a class
            left have distance 0 here.
        y_pred_weights: ``[B, N]``, at least 0, summing to 1 over N; None: uniform. A map of weight 0 is not looked at.
        y_weights: probabilities of the modes, ``[B, M]``, likewise, save that a mode of probability 0 is one.
        ignore_index: the label of void voxels; a voxel void in any map of an item is left out for this item.

    Returns:
        ``[B, 2, M]``, frequencies and then probabilities, each summing to 1 over M, in PyTorch's default dtype, on the
        device of ``y_pred``. NaN for an item whose modes all coincide.

    Raises:
        TypeError: when ``y_pred`` or ``y`` is no tensor.
        ValueError: when shapes do not match, a label is outside the classes, weights are none, or an option is unknown.
    """
    pairwise = LabelMapDistance(num_classes, include_background, distance, empty, ignore_index, classes)
    y_pred, y = check_label_maps(y_pred=y_pred, y=y)
    s_weights = check_weights(y_pred_weights, y_pred, "y_pred_weights")
    m_weights = check_weights(y_weights, y, "y_weights")
    values = []
    for samples, modes, p, q in zip(y_pred, y, s_weights, m_weights, strict=True):
        shown = weighted_maps(samples, p)
        n = len(shown)
        to_modes = pairwise({"y_pred": shown, "y": modes})[:, n:].nan_to_num(0).round(decimals=_DECIMALS)
        nearest = to_modes.argmin(1)  # the first of equal ones
        share = q.new_zeros(2, len(modes))
        share[0].index_add_(0, nearest[:n], p[p > 0])
        share[1].index_add_(0, nearest[n:], q)
        values.append(share if to_modes[n:].any() else share.fill_(torch.nan))
    return torch.stack(values)
