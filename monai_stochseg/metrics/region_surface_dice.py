# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence

import torch
from monai.data import MetaTensor
from monai.metrics import compute_surface_dice
from monai.utils import MetricReduction

from monai_stochseg.distributions.arguments import check_arguments, check_at_least

from .label_maps import check_label_maps
from .metric import ItemMetric
from .region_dice import BRATS_REGIONS, classes_of, compare_regions, select_rater

__all__ = ["RegionSurfaceDiceMetric", "compute_region_surface_dice"]


class RegionSurfaceDiceMetric(ItemMetric):
    """
    Surface Dice, at a tolerance in mm, of label maps ``[B, N, *S]`` against raters ``[B, R, *S]`` for regions.

    What is computed: :py:func:`compute_region_surface_dice`; several maps are averaged. Both may be lists of B items.

    An item's voxel size is read from its affine, so that ``y_pred`` or ``y`` must be a MetaTensor, as the transforms
    and the evaluator make them; otherwise ``spacing`` ``[B, D]`` is passed by keyword.

    Args:
        tolerance: in mm.
        regions: name and classes of each of the K regions; the default is BraTS's.
        reduction: MONAI's metric reduction over ``[B, K]``; undefined (NaN) values are left out.
        rater: index of the rater to evaluate against; None: the mean over the raters.
        use_subvoxels: whether surfaces are measured in mm2, see :py:func:`compute_region_surface_dice`.

    Raises:
        ValueError: when ``tolerance`` is negative or not finite.

    Example::

        >>> raters = torch.zeros(1, 1, 8, 8)
        >>> raters[..., 2:6, 2:6] = 1
        >>> metric = RegionSurfaceDiceMetric(tolerance=1.0, regions={"whole": (1,)})
        >>> metric(raters.roll(2, -1), raters, spacing=torch.tensor([[1.0, 1.0]]))
        tensor([[0.6667]])
    """

    @check_arguments
    def __init__(
        self,
        tolerance: float = 2.0,
        regions: Mapping[str, Sequence[int]] = BRATS_REGIONS,
        reduction: MetricReduction | str = MetricReduction.MEAN,
        rater: int | None = None,
        use_subvoxels: bool = False,
    ) -> None:
        super().__init__(reduction)
        _check_tolerance(tolerance)
        classes_of(regions)
        if rater is not None:
            check_at_least(0, rater=rater)
        self.tolerance = tolerance
        self.regions = regions
        self.rater = rater
        self.use_subvoxels = use_subvoxels

    @property
    def names(self) -> list[str]:
        """Names of the columns of the buffer."""
        return [f"surface_dice_{region}" for region in self.regions]

    def _compute_tensor(
        self, y_pred: torch.Tensor, y: torch.Tensor, spacing: torch.Tensor | None = None
    ) -> torch.Tensor:
        """One value per item and region, ``[B, K]``."""
        return compute_region_surface_dice(
            y_pred,
            select_rater(y, self.rater, self.regions),
            self.regions,
            tolerance=self.tolerance,
            spacing=_affine_spacing(y_pred=y_pred, y=y) if spacing is None else spacing,
            use_subvoxels=self.use_subvoxels,
        ).mean(1)


@check_arguments
def compute_region_surface_dice(
    y_pred: torch.Tensor,
    y: torch.Tensor,
    regions: Mapping[str, Sequence[int]],
    *,
    spacing: Sequence[float] | torch.Tensor,
    tolerance: float = 2.0,
    use_subvoxels: bool = False,
) -> torch.Tensor:
    """
    Compute the surface Dice of label maps against raters for regions, each of one or more merged classes.

    By MONAI's ``compute_surface_dice``: the share of both surfaces that is within the tolerance of the other (Nikolov
    et al., Clinically Applicable Segmentation of Head and Neck Anatomy for Radiotherapy, JMIR 2021).

    The figures of Islam and Glocker 2021 (SVLS) are the share of the rater's surface alone, with ``use_subvoxels=True``
    and a spacing of 1 whatever the image's, and differ from these.

    Args:
        y_pred: label maps ``[B, N, *S]``.
        y: raters' label maps ``[B, R, *S]``.
        regions: name and classes of each of the K regions.
        spacing: size of a voxel in mm along each of the D axes of S, ``[D]`` or ``[B, D]``.
        tolerance: in mm.
        use_subvoxels: False counts the voxels of the surface, True measures its area (in 2D its length) by marching
            cubes of the spacing, as Nikolov et al. do.

    Returns:
        ``[B, N, K]``, the mean over those raters for whom it is defined. As in MONAI, a region that is empty
        in both maps is undefined, NaN, and one that is empty in one of them has 0.

    Raises:
        TypeError: when label maps are no tensor.
        ValueError: when there is no region or no rater, the shapes do not fit, a label is no integer, ``y`` is one-hot,
            ``tolerance`` is negative or not finite, or ``spacing`` is not positive or not of D values.

    Example::

        >>> raters = torch.zeros(1, 1, 8, 8)
        >>> raters[..., 2:6, 2:6] = 1
        >>> compute_region_surface_dice(raters.roll(2, -1), raters, {"whole": (1,)}, spacing=(1, 1), tolerance=1.0)
        tensor([[[0.6667]]])
    """
    _check_tolerance(tolerance)
    y_pred, y = check_label_maps(y_pred=y_pred, y=y)
    batch, axes = y_pred.shape[0], y_pred.ndim - 2
    mm = torch.as_tensor(spacing, dtype=torch.float64)
    if mm.shape not in ((axes,), (batch, axes)) or not (mm.isfinite() & (mm > 0)).all():
        raise ValueError(
            f"spacing must be {axes} positive sizes in mm, one for each spatial axis, or [B, {axes}] of them, "
            f"got {mm.tolist()}."
        )

    def score(pred: torch.Tensor, rater: torch.Tensor) -> torch.Tensor:
        return compute_surface_dice(
            pred,
            rater,
            class_thresholds=[tolerance] * len(regions),
            include_background=True,  # the regions are channels without a background
            spacing=mm.expand(batch, axes).tolist(),
            use_subvoxels=use_subvoxels,
        )

    with warnings.catch_warnings():  # an empty region is no accident, and its value is documented above
        warnings.filterwarnings("ignore", "the (ground truth|prediction) of class")
        return compare_regions(score, y_pred, y, regions)


def _affine_spacing(**maps: torch.Tensor) -> torch.Tensor:
    """Voxel sizes ``[B, D]`` of the MetaTensors among maps ``[B, K, *S]`` by argument name, which must agree."""
    check_label_maps(**maps)
    found = {}
    for name, value in maps.items():
        if isinstance(value, MetaTensor):
            # A column is the step, in mm, along an axis of the array. A batch has one affine, or one an item.
            steps = value.affine[..., :-1, : value.ndim - 2]
            found[name] = steps.norm(dim=-2).expand(value.shape[0], -1)
    if not found:
        raise ValueError(
            "spacing is missing: surface Dice needs the size of a voxel in mm. Let y or y_pred be a MetaTensor, whose "
            "affine has it, or pass spacing [B, D]."
        )
    first, *others = found.values()
    if any(not torch.allclose(first, other.to(first), rtol=1e-3) for other in others):
        sizes = {name: steps.tolist() for name, steps in found.items()}
        raise ValueError(
            f"the affines disagree in spacing, got {sizes} mm: bring both maps to one space, or pass spacing [B, D]."
        )
    return first


def _check_tolerance(tolerance: float) -> None:
    if not (math.isfinite(tolerance) and tolerance >= 0):
        raise ValueError(f"tolerance must be a length in mm of at least 0, got {tolerance}.")
