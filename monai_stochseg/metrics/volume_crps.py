# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from monai.utils import MetricReduction

from monai_stochseg.distributions import check_weights

from .map_sets import mean_distance
from .metric import ItemMetric
from .pairwise_distance import check_label_maps

__all__ = ["VolumeCRPSMetric", "compute_volume_crps"]


class VolumeCRPSMetric(ItemMetric):
    """
    Continuous ranked probability score, in ml, of the volume of structures in samples against the raters'.

    ``y_pred`` are samples ``[B, N, *S]`` and ``y`` raters ``[B, R, *S]``, or both lists of B items, in which N and R
    may differ; by keyword ``spacing`` ``[B, 3]``, where it differs between items, and ``y_pred_weights`` and
    ``y_weights``. What is computed: :py:func:`compute_volume_crps`. The buffer is ``[cases, K]`` with columns
    :py:attr:`names`.

    Args:
        regions: name and classes of each of the K structures.
        spacing: size of a voxel in mm, see :py:func:`compute_volume_crps`, of items that come without.
        self_pairs: whether the pairs of a sample with itself count.
        reduction: see :py:class:`~.metric.ItemMetric`.
        get_not_nans: see :py:class:`~.metric.ItemMetric`.

    Raises:
        ValueError: when there is no structure.
    """

    weighted = ("y_pred", "y")

    def __init__(
        self,
        regions: Mapping[str, Sequence[int]],
        spacing: Sequence[float] = (1.0, 1.0, 1.0),
        self_pairs: bool = True,
        reduction: MetricReduction | str = MetricReduction.MEAN,
        get_not_nans: bool = False,
    ) -> None:
        super().__init__(reduction, get_not_nans)
        _check_regions(regions)
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
        y_pred_weights: torch.Tensor | None = None,
        y_weights: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """One value per item and structure, ``[B, K]``."""
        return compute_volume_crps(
            y_pred,
            y,
            self.regions,
            spacing=self.spacing if spacing is None else spacing,
            self_pairs=self.self_pairs,
            y_pred_weights=y_pred_weights,
            y_weights=y_weights,
        )


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
        y_pred_weights: ``[B, N]``, at least 0, summing to 1 over N; None: uniform.
        y_weights: ``[B, R]``, likewise; 0 for a missing rater.

    Returns:
        ``[B, K]`` in ml, in PyTorch's default dtype, on the device of ``y_pred``. NaN where ``self_pairs=False`` and
        only one sample has a weight.

    Raises:
        TypeError: when ``y_pred`` or ``y`` is no tensor.
        ValueError: when shapes do not match, there is no structure, ``spacing`` is not positive or not of three values,
            weights are none, or ``self_pairs=False`` and there is one sample.
    """
    _check_regions(regions)
    y_pred, y = check_label_maps(y_pred=y_pred, y=y)
    if not self_pairs and y_pred.shape[1] < 2:
        raise ValueError("self_pairs=False needs at least 2 samples in y_pred, got 1: add maps or set self_pairs=True.")
    mm = torch.as_tensor(spacing, dtype=torch.float64, device=y_pred.device)
    if mm.shape not in ((3,), (y_pred.shape[0], 3)) or not (mm.isfinite() & (mm > 0)).all():
        raise ValueError(
            f"spacing must be 3 positive sizes in mm, or [B, 3] = ({y_pred.shape[0]}, 3) of them, got {mm.tolist()}: "
            "for 2D maps the third is the slice's thickness."
        )
    voxel = (mm / 10).prod(-1).expand(y_pred.shape[0])
    p = check_weights(y_pred_weights, y_pred, "y_pred_weights")
    q = check_weights(y_weights, y, "y_weights")
    scores = []
    for classes in regions.values():
        x, r = ((_voxels(maps, classes) * voxel[:, None]).to(p) for maps in (y_pred, y))
        scores.append(
            torch.stack(
                [
                    mean_distance((x[b, :, None] - r[b]).abs(), p[b], q[b])
                    - mean_distance((x[b, :, None] - x[b]).abs(), p[b], p[b], self_pairs) / 2
                    for b in range(len(x))
                ]
            )
        )
    return torch.stack(scores, dim=1)


def _check_regions(regions: Mapping[str, Sequence[int]]) -> None:
    if not regions:
        raise ValueError("regions must name at least one structure, got none.")


def _voxels(maps: torch.Tensor, classes: Sequence[int]) -> torch.Tensor:
    """Number of voxels of the classes in each map, ``[B, K, *S]`` to ``[B, K]``."""
    return torch.isin(maps, torch.tensor(classes, device=maps.device)).flatten(2).sum(2)
