# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from monai.utils import MetricReduction

from monai_stochseg.distributions.arguments import check_arguments

from .label_maps import refuse_channels_as_raters
from .map_sets import check_self_pairs, counted_pairs, mean_distance
from .metric import ItemMetric
from .region_dice import classes_of

__all__ = ["VolumeCRPSMetric", "compute_volume_crps"]


class VolumeCRPSMetric(ItemMetric):
    """
    Continuous ranked probability score, in ml, of the volume of structures in samples against the raters'.

    ``y_pred`` are samples ``[B, N, *S]`` and ``y`` raters ``[B, R, *S]``, or both lists of B items, in which N and R
    may differ; by keyword ``spacing`` ``[B, 3]``, where it differs between items. Weights as in
    :py:class:`~.energy_distance.GeneralizedEnergyDistanceMetric`. What is computed: :py:func:`compute_volume_crps`. The
    buffer is ``[cases, K]`` with columns :py:attr:`names`.

    Args:
        regions: name and classes of each of the K structures.
        spacing: size of a voxel in mm, see :py:func:`compute_volume_crps`, of items without one of their own.
        self_pairs: whether the pairs of a sample with itself count.
        reduction: see :py:class:`~.metric.ItemMetric`.
        get_not_nans: see :py:class:`~.metric.ItemMetric`.

    Raises:
        ValueError: when there is no structure.

    Example::

        >>> metric = VolumeCRPSMetric({"tumour": (1,)}, spacing=(10, 10, 10))
        >>> metric(torch.tensor([[[1, 0, 0], [1, 1, 1]]]), torch.tensor([[[1, 1, 0]]]))
        tensor([[0.5000]])
    """

    weighted = ("y_pred", "y")

    @check_arguments
    def __init__(
        self,
        regions: Mapping[str, Sequence[int]],
        spacing: Sequence[float] = (1.0, 1.0, 1.0),
        self_pairs: bool = True,
        reduction: MetricReduction | str = MetricReduction.MEAN,
        get_not_nans: bool = False,
    ) -> None:
        super().__init__(reduction, get_not_nans)
        classes_of(regions)
        _check_spacing(spacing, 1)
        self.regions = regions
        self.spacing = spacing
        self.self_pairs = self_pairs

    @property
    def names(self) -> list[str]:
        """Names of the columns of the buffer."""
        return list(self.regions)

    def _compute_tensor(
        self,
        y_pred: torch.Tensor,
        y: torch.Tensor,
        spacing: torch.Tensor | None = None,
        **weights: torch.Tensor | None,
    ) -> torch.Tensor:
        """One value per item and structure, ``[B, K]``."""
        mm = self.spacing if spacing is None else spacing
        return compute_volume_crps(y_pred, y, self.regions, spacing=mm, self_pairs=self.self_pairs, **weights)


@check_arguments
def compute_volume_crps(
    y_pred: torch.Tensor,
    y: torch.Tensor,
    regions: Mapping[str, Sequence[int]],
    *,
    spacing: Sequence[float] | torch.Tensor,
    self_pairs: bool = True,
    y_pred_weights: torch.Tensor | None = None,
    y_weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """
    Compute the continuous ranked probability score of the structures' volumes, per item of the batch.

    ``E|X - y| - E|X - X'| / 2`` with X, X' the volumes in the samples and y a rater's, averaged over the raters:
    equation 21 of Gneiting and Raftery, Strictly Proper Scoring Rules, Prediction, and Estimation, Journal of the
    American Statistical Association 102, 2007. With one sample it is the absolute error of the volume.

    Args:
        y_pred: sampled label maps ``[B, N, *S]``.
        y: the raters' label maps ``[B, R, *S]``.
        regions: name and classes of each of the K structures; a structure that a map does not hold has volume 0.
        spacing: size of a voxel in mm, three values or ``[B, 3]``; for 2D maps the third is the slice's thickness.
        self_pairs: True takes X = X' into the mean (the empirical distribution's score); False leaves it out
            (unbiased in the number of samples, may be negative).
        y_pred_weights: ``[B, N]``, non-negative, see :py:func:`monai_stochseg.distributions.check_weights`; None:
            uniform. A map of weight 0 may hold anything.
        y_weights: ``[B, R]``, likewise; 0 for a missing rater.

    Returns:
        ``[B, K]`` in ml, in PyTorch's default dtype, on the device of ``y_pred``. NaN where ``self_pairs=False`` and
        only one sample has a weight.

    Raises:
        TypeError: when ``y_pred`` or ``y`` is no tensor.
        ValueError: when shapes do not match, a label is no integer, ``y`` is one-hot, there is no
            structure, ``spacing`` is not positive or not of three values, weights are wrong, or ``self_pairs=False``
            and there is one sample.

    Example::

        >>> samples, raters = torch.tensor([[[1, 0, 0], [1, 1, 1]]]), torch.tensor([[[1, 1, 0]]])
        >>> compute_volume_crps(samples, raters, {"tumour": (1,)}, spacing=(10, 10, 10))
        tensor([[0.5000]])
    """
    num_classes = classes_of(regions)
    pairs = counted_pairs(y_pred, y, y_pred_weights, y_weights)
    refuse_channels_as_raters(y, y_weights, num_classes)
    check_self_pairs(self_pairs, y_pred=y_pred)
    mm = _check_spacing(spacing, len(y_pred)).to(y_pred.device)
    voxels = (mm / 10).prod(-1).expand(y_pred.shape[0])
    scores = []
    for (samples, p, raters, q), voxel in zip(pairs, voxels, strict=True):
        x, y_ = (_volumes(maps, regions, voxel) for maps in (samples, raters))
        scores.append(
            torch.stack(
                [
                    mean_distance((s[:, None] - r).abs(), p, q)
                    - mean_distance((s[:, None] - s).abs(), p, p, self_pairs) / 2
                    for s, r in zip(x, y_, strict=True)
                ]
            )
        )
    return torch.stack(scores)


def _check_spacing(spacing: Sequence[float] | torch.Tensor, batch: int) -> torch.Tensor:
    mm = torch.as_tensor(spacing, dtype=torch.float64)
    if mm.shape not in ((3,), (batch, 3)) or not (mm.isfinite() & (mm > 0)).all():
        raise ValueError(
            f"spacing must be 3 positive sizes in mm, or [B, 3] = ({batch}, 3) of them, got {mm.tolist()}: for 2D maps "
            "the third is the slice's thickness."
        )
    return mm


def _volumes(maps: Sequence[torch.Tensor], regions: Mapping[str, Sequence[int]], voxel: torch.Tensor) -> torch.Tensor:
    """Volume of each of the K structures in each map of one item, ``[K, N]`` in ml."""
    counts = [
        torch.stack([torch.isin(row, torch.tensor(classes, device=row.device)).sum() for row in maps])
        for classes in regions.values()
    ]
    return (torch.stack(counts) * voxel).to(torch.get_default_dtype())
