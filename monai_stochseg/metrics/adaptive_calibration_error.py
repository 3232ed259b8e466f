# SPDX-License-Identifier: Apache-2.0
"""Thresholded adaptive calibration error: bins that hold equally many voxels, of each class by itself."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.utils import MetricReduction

from monai_stochseg.distributions.arguments import check_arguments, check_at_least, check_fraction, check_option

from .calibration_error import calibration_target
from .metric import ItemMetric

__all__ = ["AdaptiveCalibrationErrorMetric", "compute_adaptive_calibration_error"]


class AdaptiveCalibrationErrorMetric(ItemMetric):
    """
    Thresholded adaptive calibration error of each item, the mean over its classes.

    ``y_pred`` are marginal probabilities ``[B, C, *S]`` and ``y`` raters ``[B, R, *S]``, or both lists of B items;
    ``y_weights`` and ``mask`` by keyword. What is computed: :py:func:`compute_adaptive_calibration_error`. Classes for
    which it is undefined are left out of the item's mean, and items without any out of the mean over the items.

    The bins depend on an item's own probabilities and cannot be added, unlike those of
    :py:class:`~.calibration_error.ExpectedCalibrationErrorMetric`. So the value is the mean of the items' errors,
    and over several processes that of all items.

    Published SVLS figures (Islam and Glocker 2021, tables 1 and 2) compare with
    ``classes=range(1, num_classes), weighting="svls"``.

    Args:
        num_bins: number of bins of each class.
        threshold: probabilities must be above it.
        classes: the classes that count; None: all, the background included.
        weighting: ``"equal"`` or ``"svls"``.
        soft_target: whether ``y`` is class probabilities ``[B, C, *S]``.
        foreground_only: whether only voxels that a rater labels as foreground count.
        reduction: see :py:class:`~.metric.ItemMetric`.
        get_not_nans: see :py:class:`~.metric.ItemMetric`.

    Raises:
        ValueError: when there is no bin or no class, or an option is unknown or out of range.

    Example::

        >>> p, raters = torch.tensor([[[0.8, 0.4], [0.2, 0.6]]]), torch.tensor([[[0, 1], [0, 0]]])
        >>> AdaptiveCalibrationErrorMetric(num_bins=1)(p, raters)
        tensor([[0.1500]])
    """

    weighted = ("y",)

    @check_arguments
    def __init__(
        self,
        num_bins: int = 10,
        threshold: float = 1e-3,
        classes: Sequence[int] | None = None,
        weighting: str = "equal",
        soft_target: bool = False,
        foreground_only: bool = False,
        reduction: MetricReduction | str = MetricReduction.MEAN,
        get_not_nans: bool = False,
    ) -> None:
        super().__init__(reduction, get_not_nans)
        _check_options(num_bins, threshold, classes, weighting)
        self.num_bins = num_bins
        self.threshold = threshold
        self.classes = classes
        self.weighting = weighting
        self.soft_target = soft_target
        self.foreground_only = foreground_only

    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor, **given: torch.Tensor | None) -> torch.Tensor:
        """One value per item, ``[B, 1]``."""
        return compute_adaptive_calibration_error(
            y_pred,
            y,
            num_bins=self.num_bins,
            threshold=self.threshold,
            classes=self.classes,
            weighting=self.weighting,
            soft_target=self.soft_target,
            foreground_only=self.foreground_only,
            **given,
        ).nanmean(1, keepdim=True)


@check_arguments
def compute_adaptive_calibration_error(
    y_pred: torch.Tensor,
    y: torch.Tensor,
    *,
    num_bins: int = 10,
    threshold: float = 1e-3,
    classes: Sequence[int] | None = None,
    weighting: str = "equal",
    soft_target: bool = False,
    foreground_only: bool = False,
    y_weights: torch.Tensor | None = None,
    mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """
    Compute the thresholded adaptive calibration error of each class, per item of the batch.

    The n voxels whose probability of a class is above the threshold are sorted by it and cut into M bins of n / M
    voxels (of the whole numbers on either side, where M does not divide n). The error of the class is the mean of
    ``|acc_m - conf_m|`` over the bins, with ``conf_m`` the mean probability and ``acc_m`` the mean frequency of the
    class among the raters; that of the item is the mean over the classes (Nixon et al., Measuring Calibration in Deep
    Learning, CVPR Workshops 2019, section 3). Where a bin's limit falls among voxels of one probability, such as many
    that are exactly 1, these enter both bins with their mean frequency, so that the order of voxels does not matter.

    ``weighting="svls"`` is what the figures of Islam and Glocker, Spatially Varying Label Smoothing, IPMI 2021, were
    made with: a bin's error is weighted by its share of the voxels, ``n_m / n |acc_m - conf_m|``, and then the mean
    over the bins taken, so that the result is about M times smaller. They leave the background out, too:
    ``classes=range(1, C)``.

    It takes one sort of each class's voxels: the four classes of 240x240x155 voxels take up to 10 s on one core and,
    beside the probabilities and a target of their size, memory for about 30 bytes for each voxel of one class.

    Args:
        y_pred: marginal class probabilities ``[B, C, *S]``.
        y: the raters' label maps ``[B, R, *S]`` of integers in any type, floating types included, or with
            ``soft_target=True`` class probabilities ``[B, C, *S]``.
        num_bins: number of bins M. A class with n < M voxels has n bins of one voxel.
        threshold: probabilities must be above it, in [0, 1).
        classes: the K classes; None: all, the background included.
        weighting: ``"equal"``: each bin of a class counts the same; ``"svls"``: see above.
        soft_target: whether ``y`` is class probabilities.
        foreground_only: count only voxels in which ``y`` gives a class other than the background a positive share.
        y_weights: ``[B, R]``; None: uniform; 0 for a missing rater, whose map may hold anything. A soft target takes
            none.
        mask: region ``[B, 1, *S]``, above 0 inside; None: everywhere.

    Returns:
        ``[B, K]`` in PyTorch's default dtype on the device of ``y_pred``, in [0, 1]; NaN where no probability
        of the class is above the threshold.

    Raises:
        TypeError: when ``y_pred`` or ``y`` is no tensor.
        ValueError: when shapes do not match, values are no probabilities, a label inside the mask is outside the
            classes, weights are wrong or given for a soft target, or an option is unknown or out of range.

    Example::

        >>> p, raters = torch.tensor([[[0.8, 0.4], [0.2, 0.6]]]), torch.tensor([[[0, 1], [0, 0]]])
        >>> compute_adaptive_calibration_error(p, raters, num_bins=2)
        tensor([[0.1500, 0.1500]])
    """
    _check_options(num_bins, threshold, classes, weighting)
    probabilities, frequency, inside = calibration_target(
        y_pred, y, soft_target=soft_target, foreground_only=foreground_only, y_weights=y_weights, mask=mask
    )
    num_classes = probabilities.shape[1]
    chosen = range(num_classes) if classes is None else classes
    if unknown := [c for c in chosen if not 0 <= c < num_classes]:
        raise ValueError(f"classes must be of the {num_classes} classes 0 to {num_classes - 1}, got {unknown}.")
    errors = probabilities.new_empty(len(probabilities), len(chosen))
    for item, region in enumerate(inside[:, 0]):
        for column, c in enumerate(chosen):
            counted = region & (probabilities[item, c] > threshold)
            p, f = probabilities[item, c][counted], frequency[item, c][counted]
            errors[item, column] = _class_error(p, f, num_bins, weighting)
    return errors


def _class_error(confidence: torch.Tensor, accuracy: torch.Tensor, num_bins: int, weighting: str) -> float:
    """The error of one class from the confidence and accuracy ``[n]`` of its voxels."""
    n = len(confidence)
    num_bins = min(num_bins, n)
    if n == 0:
        return torch.nan
    confidence, order = confidence.sort()
    gap = accuracy[order].double().sub_(confidence)
    total = torch.cat([gap.new_zeros(1), gap.cumsum(0)])
    limits = torch.arange(num_bins + 1, device=confidence.device) * n // num_bins
    # Linear over the voxels of one confidence, from the first to the one after the last.
    value = confidence[limits.clamp(max=n - 1)]
    first, last = (torch.searchsorted(confidence, value, right=right) for right in (False, True))
    part = (limits - first) / (last - first)
    gaps = torch.lerp(total[first], total[last], part.double()).diff().abs()
    gaps = gaps / n if weighting == "svls" else gaps / limits.diff()
    return gaps.mean().item()


def _check_options(num_bins: int, threshold: float, classes: Sequence[int] | None, weighting: str) -> None:
    check_at_least(1, num_bins=num_bins)
    check_fraction(threshold=threshold)
    if classes is not None and len(set(classes)) < max(len(classes), 1):
        raise ValueError(f"classes must name one or more classes, each once, got {list(classes)}: None takes all.")
    check_option("weighting", weighting, ("equal", "svls"))
