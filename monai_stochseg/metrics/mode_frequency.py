# SPDX-License-Identifier: Apache-2.0
"""How often samples fall on each mode of a truth of which all modes are known."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from monai_stochseg.distributions import check_weights
from monai_stochseg.distributions.arguments import check_arguments

from .label_maps import check_label_maps
from .map_sets import counted_maps
from .pairwise_distance import LabelMapDistance, as_distance
from .pooled_metric import PooledMetric

__all__ = ["ModeFrequencyMetric", "compute_mode_frequency", "nearest_modes"]

# Decimals to which distances are compared: beyond them equal means of floating-point numbers differ.
_DECIMALS = 6


class ModeFrequencyMetric(PooledMetric):
    """
    Frequency of the samples on each mode of the truth against its probability.

    ``y_pred`` are samples ``[B, N, *S]`` and ``y`` modes ``[B, M, *S]``, such as
    :py:func:`monai_stochseg.transforms.class_switch_modes` lists them, or both lists of B items; the probabilities of
    the modes are ``y_weights``, by keyword or carried by the modes, see :py:class:`~.metric.ItemMetric`. What is
    computed: :py:func:`compute_mode_frequency`. The value is the total variation distance
    ``sum_m |f_m - p_m| / 2`` of the mean frequencies, from 0 to 1. Even for samples of the truth it is above 0 by
    chance, more so for few samples. For a figure: :py:meth:`frequencies`.

    Args:
        num_modes: number of modes M of each item.
        distance: between two label maps, or the number of classes, see
            :py:class:`~.pairwise_distance.LabelMapDistance`.

    Raises:
        ValueError: when there are fewer than two modes.

    Example::

        >>> metric = ModeFrequencyMetric(2, LabelMapDistance(num_classes=3))
        >>> modes = torch.tensor([[[1, 1], [2, 2]]])
        >>> metric(modes[:, [0, 0, 1, 1]], modes, y_weights=torch.tensor([[3, 1]]))
        tensor([[0.5000, 0.5000, 0.7500, 0.2500]])
        >>> metric.aggregate()
        tensor(0.2500)
    """

    weighted = ("y_pred", "y")

    @check_arguments
    def __init__(self, num_modes: int, distance: LabelMapDistance | int) -> None:
        super().__init__()
        if num_modes < 2:
            raise ValueError(f"num_modes must be at least 2, got {num_modes}: one mode has all samples.")
        self.num_modes = num_modes
        self.distance = as_distance(distance)

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

    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor, **weights: torch.Tensor | None) -> torch.Tensor:
        """Frequencies and probabilities, ``[B, 2 * M]``."""
        if y.shape[1] != self.num_modes:
            raise ValueError(f"y must have the num_modes={self.num_modes} modes of each item, got {y.shape[1]}.")
        return compute_mode_frequency(y_pred, y, self.distance, **weights).flatten(1)

    def _pool(self, rows: torch.Tensor) -> torch.Tensor:
        frequency, probability = self._mean(rows)
        return (frequency - probability).abs().sum() / 2

    def _mean(self, rows: torch.Tensor) -> torch.Tensor:
        return rows.nanmean(0).unflatten(0, (2, self.num_modes))


@check_arguments
def compute_mode_frequency(
    y_pred: torch.Tensor,
    y: torch.Tensor,
    distance: LabelMapDistance | int,
    *,
    y_pred_weights: torch.Tensor | None = None,
    y_weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """
    Compute the share of the samples that are nearest to each mode, and the modes' probabilities, per item.

    The mode-wise frequencies of Kohl et al., A Probabilistic U-Net for Segmentation of Ambiguous Images, NeurIPS 2018,
    figure 5. Of equally near modes the sample belongs to the one of lowest index. So where modes coincide, for example
    in an image without a class that could have become another, the first of them has all their samples. The
    probabilities are counted in the same way, each mode being a sample of its probability: the first of coinciding
    modes has the probability of all.

    Args:
        y_pred: sampled label maps ``[B, N, *S]`` of integers in any type, floating types included.
        y: the modes ``[B, M, *S]``.
        distance: between two label maps, or the number of classes, see
            :py:class:`~.pairwise_distance.LabelMapDistance`; its ``classes`` are such as could become others and what
            they become. Two maps without a class left have distance 0 here.
        y_pred_weights: ``[B, N]``; None: uniform. A map of weight 0 may hold anything.
        y_weights: probabilities of the modes, ``[B, M]``; None: uniform. A mode of probability 0 remains a mode.

    Returns:
        ``[B, 2, M]``, frequencies and then probabilities, each summing to 1 over M, in PyTorch's default dtype, on the
        device of ``y_pred``. NaN for an item whose modes all coincide or whose voxels are all void.

    Raises:
        TypeError: when ``y_pred`` or ``y`` is no tensor.
        ValueError: when shapes do not match, a label is outside the classes, or weights are wrong.

    Example::

        >>> modes = torch.tensor([[[1, 1], [2, 2]]])
        >>> compute_mode_frequency(torch.tensor([[[1, 0], [1, 1], [2, 2], [0, 1]]]), modes, 3)
        tensor([[[0.7500, 0.2500],
                 [0.5000, 0.5000]]])
    """
    distance = as_distance(distance)
    y_pred, y = check_label_maps(y_pred=y_pred, y=y)
    sets = counted_maps("y_pred", y_pred, y_pred_weights)
    probabilities = check_weights(y_weights, y, "y_weights", "y").to(torch.get_default_dtype())
    values = []
    for (samples, p), modes, q in zip(sets, y, probabilities, strict=True):
        n = len(p)
        to_modes = _distances(samples, modes, distance)
        nearest = to_modes.argmin(1)  # the first of equal ones
        share = q.new_zeros(2, len(modes))
        share[0].index_add_(0, nearest[:n], p)
        share[1].index_add_(0, nearest[n:], q)
        values.append(share if to_modes[n:].any() else share.fill_(torch.nan))
    return torch.stack(values)


def nearest_modes(samples: torch.Tensor, modes: torch.Tensor, distance: LabelMapDistance) -> torch.Tensor:
    """
    The index of the mode that each label map is nearest to, the first of equally near ones.

    Args:
        samples: ``[N, *S]``.
        modes: ``[M, *S]``.
        distance: between two label maps.

    Returns:
        ``[N]``.
    """
    return _distances(samples, modes, distance)[: len(samples)].argmin(1)


def _distances(
    samples: torch.Tensor | Sequence[torch.Tensor], modes: torch.Tensor, distance: LabelMapDistance
) -> torch.Tensor:
    """``[N + M, M]``, of samples and then of the modes themselves."""
    all_pairs = distance({"y_pred": samples, "y": modes})
    return all_pairs[:, len(samples) :].nan_to_num(0).round(decimals=_DECIMALS)
