# SPDX-License-Identifier: Apache-2.0
"""How many voxels of a class the samples turn into the class that it becomes with a known probability."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from monai_stochseg.distributions.arguments import check_arguments

from .map_sets import counted_pairs
from .pooled_metric import PooledMetric

__all__ = ["PixelFlipRatioMetric", "compute_pixel_flip_ratio"]


class PixelFlipRatioMetric(PooledMetric):
    """
    Share of the voxels of each class that samples label as what it may become, against its probability.

    ``y_pred`` are samples ``[B, N, *S]`` and ``y`` the label before any switch, ``[B, 1, *S]``, or all its modes, or
    both lists of B items; weights as in :py:func:`compute_pixel_flip_ratio`, by keyword or carried by the maps, see
    :py:class:`~.metric.ItemMetric`. Voxels of all items count the same: the sums of each item are kept. The value is
    the mean over the switches of the absolute difference between ratio and probability; a switch whose class is in no
    item is left out. The ratios, for a figure: :py:meth:`ratios`.

    Args:
        switches: source class to (target class, probability), as in
            :py:class:`monai_stochseg.transforms.RandClassSwitch`.

    Raises:
        ValueError: when there is no switch, a source is the target of one, or a probability is outside [0, 1].

    Example::

        >>> metric = PixelFlipRatioMetric({1: (2, 0.5)})
        >>> _ = metric(torch.tensor([[[2, 2, 0], [1, 1, 0], [2, 1, 0], [1, 1, 1]]]), torch.tensor([[[1, 1, 0]]]))
        >>> metric.ratios()
        tensor([0.3750], dtype=torch.float64)
        >>> metric.aggregate()
        tensor(0.1250, dtype=torch.float64)
    """

    weighted = ("y_pred", "y")

    @check_arguments
    def __init__(self, switches: Mapping[int, Sequence[float]]) -> None:
        super().__init__()
        self.switches = {int(source): int(target) for source, (target, _) in switches.items()}
        self.probabilities = [float(probability) for _, probability in switches.values()]
        _check_switches(self.switches)
        if wrong := [p for p in self.probabilities if not 0 <= p <= 1]:
            raise ValueError(f"probabilities of switches must be in [0, 1], got {wrong}.")

    @property
    def names(self) -> list[str]:
        """Names of the columns of the buffer."""
        return [f"{of}_{source}" for source in self.switches for of in ("voxels", "flipped")]

    def ratios(self) -> torch.Tensor:
        """
        The ratios over all items met since the last ``reset``, over all processes.

        Returns:
            float64 ``[K]``, one a switch; NaN where no item has its source.

        Raises:
            ValueError: when the metric has not been called since the last ``reset``.
        """
        return self._ratios(self._rows())

    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor, **weights: torch.Tensor | None) -> torch.Tensor:
        """Voxels and flipped voxels of each switch, ``[B, K * 2]``."""
        return _count(y_pred, y, self.switches, **weights).flatten(1)

    def _pool(self, rows: torch.Tensor) -> torch.Tensor:
        return (self._ratios(rows) - rows.new_tensor(self.probabilities)).abs().nanmean()

    def _ratios(self, rows: torch.Tensor) -> torch.Tensor:
        voxels, flipped = rows.sum(0).unflatten(0, (-1, 2)).unbind(1)
        return flipped / voxels


@check_arguments
def compute_pixel_flip_ratio(
    y_pred: torch.Tensor,
    y: torch.Tensor,
    switches: Mapping[int, int],
    *,
    y_pred_weights: torch.Tensor | None = None,
    y_weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """
    Compute the share of the voxels of a class that the samples label as what it may become, per item of the batch.

    For the class switches of Kohl et al., A Probabilistic U-Net for Segmentation of Ambiguous Images, NeurIPS 2018: how
    often each voxel changes, where :py:func:`~.mode_frequency.compute_mode_frequency` asks how often the image does. A
    voxel that a sample gives a third class is not flipped: the ratio of a network that errs is lower than the
    probability.

    Args:
        y_pred: sampled label maps ``[B, N, *S]`` of integers in any type, floating types included.
        y: the label before any switch, ``[B, 1, *S]``, or more maps, such as all its modes: a voxel is of the class
            where one of them says so. A void voxel has no class.
        switches: source class to target class, K of them.
        y_pred_weights: ``[B, N]``, non-negative, see :py:func:`monai_stochseg.distributions.check_weights`; None:
            uniform. A map of weight 0 may hold anything.
        y_weights: ``[B, M]``, likewise; it matters only whether a map has a weight above 0.

    Returns:
        float64 ``[B, K]``, in [0, 1], on the device of ``y_pred``; NaN where the item lacks the source.

    Raises:
        TypeError: when ``y_pred`` or ``y`` is no tensor.
        ValueError: when shapes do not match, a label is no integer, ``y`` is one-hot, weights are wrong,
            there is no switch, or a source is the target of one.

    Example::

        >>> samples, label = torch.tensor([[[2, 2, 0], [1, 1, 0], [2, 1, 0], [1, 1, 1]]]), torch.tensor([[[1, 1, 0]]])
        >>> compute_pixel_flip_ratio(samples, label, {1: 2})
        tensor([[0.3750]], dtype=torch.float64)
    """
    _check_switches(switches)
    voxels, flipped = _count(y_pred, y, switches, y_pred_weights, y_weights).unbind(2)
    return flipped / voxels


def _count(
    y_pred: torch.Tensor,
    y: torch.Tensor,
    switches: Mapping[int, int],
    y_pred_weights: torch.Tensor | None = None,
    y_weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """The voxels of each source and the mean number of those that the samples flip, float64 ``[B, K, 2]``."""
    counts = torch.zeros(len(y), len(switches), 2, dtype=torch.float64, device=y_pred.device)
    for item, (samples, p, maps, _) in enumerate(counted_pairs(y_pred, y, y_pred_weights, y_weights)):
        for column, (source, target) in enumerate(switches.items()):
            voxels = torch.stack([row == source for row in maps]).any(0)
            flipped = torch.stack([(row[voxels] == target).sum() for row in samples])
            counts[item, column, 0] = voxels.sum()
            counts[item, column, 1] = (p.double() * flipped).sum() / p.double().sum()
    return counts


def _check_switches(switches: Mapping[int, int]) -> None:
    if not switches:
        raise ValueError("switches must name at least one source and its target, got none.")
    if chained := sorted(set(switches) & set(switches.values())):
        raise ValueError(f"switches must have targets that are no source, got {chained} as both.")
