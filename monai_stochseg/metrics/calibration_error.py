# SPDX-License-Identifier: Apache-2.0
"""
Expected calibration error of a data set.

MONAI's ``CalibrationErrorMetric`` takes the error of each image and channel and then their mean, from one-hot labels;
here the voxels of all images share their bins, as in the papers, and labels may be several raters' frequency.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from monai.utils import MetricReduction, ensure_tuple

from monai_stochseg.distributions import check_weights
from monai_stochseg.distributions.arguments import check_arguments, check_at_least, check_option, check_same_images

from .class_frequency import check_mask, check_probabilities, label_frequency
from .label_maps import check_label_maps, refuse_channels_as_raters
from .metric import ItemMetric
from .pooled_metric import PooledMetric

__all__ = [
    "ExpectedCalibrationErrorMetric",
    "ItemCalibrationErrorMetric",
    "compute_calibration_bins",
    "expected_calibration_error",
]


class ExpectedCalibrationErrorMetric(PooledMetric):
    """
    Expected calibration error over the voxels of all items.

    ``y_pred`` are marginal probabilities ``[B, C, *S]`` and ``y`` raters ``[B, R, *S]``, or both lists of B items;
    ``y_weights`` and ``mask`` by keyword. Only the bins of each item and its number of voxels are kept: the buffer is
    ``[items, 3 * num_bins + 1]``. What is computed: :py:func:`compute_calibration_bins`, summed over the items, then
    :py:func:`expected_calibration_error`. Their sum, for a reliability diagram: :py:meth:`bins`.

    In an engine: ``IgniteMetricHandler(metric_fn=ExpectedCalibrationErrorMetric(),
    output_transform=from_engine(["probabilities", "label"]))``.

    Args:
        num_bins: number of bins of equal width.
        kind: ``"top_label"`` or ``"class"``.
        class_index: the class of ``kind="class"``, or several, see :py:func:`compute_calibration_bins`.
        soft_target: whether ``y`` is class probabilities ``[B, C, *S]``.
        foreground_only: whether only voxels that a rater labels as foreground count, as in Islam and Glocker,
            Spatially Varying Label Smoothing, IPMI 2021. Foreground predicted where no rater drew any does not
            count then.
        classes: of ``kind="top_label"``: only voxels whose most probable class is one of these count; None: all.
        ignore_index: the label of void voxels, which do not count.
        denominator: by what the bins' gaps are divided. ``"counted"``: the number of voxels in the bins. ``"all"``:
            that of all voxels of the images, or of their mask, void ones and other classes' too, as in the authors'
            code of Gao et al. 2023 (https://github.com/gaozhitong/MoSE-AUSeg), whose error is of the most probable
            class where it is one of the ten classes that switches concern; with ``kind="class"`` times the classes.

    Raises:
        ValueError: when there is no bin or ``kind`` is unknown.

    Example::

        >>> metric = ExpectedCalibrationErrorMetric(num_bins=2)
        >>> p, raters = torch.tensor([[[0.8, 0.4], [0.2, 0.6]]]), torch.tensor([[[0, 1], [0, 0]]])
        >>> _ = metric(p, raters)
        >>> metric.aggregate()
        tensor(0.0500, dtype=torch.float64)
    """

    weighted = ("y",)

    @check_arguments
    def __init__(
        self,
        num_bins: int = 10,
        kind: str = "top_label",
        class_index: int | Sequence[int] = 1,
        soft_target: bool = False,
        foreground_only: bool = False,
        classes: Sequence[int] | None = None,
        ignore_index: int | None = None,
        denominator: str = "counted",
    ) -> None:
        super().__init__()
        _check_options(num_bins, kind, class_index, classes)
        self.num_bins = num_bins
        self.kind = kind
        self.class_index = class_index
        self.soft_target = soft_target
        self.foreground_only = foreground_only
        self.classes = classes
        self.ignore_index = ignore_index
        self.denominator = check_option("denominator", denominator, ("counted", "all"))

    @property
    def names(self) -> list[str]:
        """Names of the columns of the buffer."""
        sums = [f"{sum_}_{i}" for i in range(self.num_bins) for sum_ in ("count", "confidence", "accuracy")]
        return [*sums, "voxels"]

    def bins(self) -> torch.Tensor:
        """
        The bins over all items met since the last ``reset``, over all processes.

        Returns:
            float64 ``[num_bins, 3]``, as :py:func:`compute_calibration_bins`.

        Raises:
            ValueError: when the metric has not been called since the last ``reset``.
        """
        return self._sum(self._rows())

    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor, **given: torch.Tensor | None) -> torch.Tensor:
        """The bins of each item and its number of voxels, ``[B, 3 * num_bins + 1]``."""
        check_same_images(y_pred=y_pred, y=y)
        if wrong := [name for name, value in given.items() if isinstance(value, torch.Tensor) and len(value) != len(y)]:
            raise ValueError(f"{' and '.join(wrong)} must have one row for each of the {len(y)} items of y_pred.")
        rows = []
        for item in range(len(y_pred)):
            one = slice(item, item + 1)
            bins = compute_calibration_bins(
                y_pred[one],
                y[one],
                num_bins=self.num_bins,
                kind=self.kind,
                class_index=self.class_index,
                soft_target=self.soft_target,
                foreground_only=self.foreground_only,
                classes=self.classes,
                ignore_index=self.ignore_index,
                **{name: value[one] if isinstance(value, torch.Tensor) else value for name, value in given.items()},
            )
            rows.append(torch.cat([bins.flatten(), self._voxels(y_pred[one], given.get("mask"), one).to(bins)]))
        return torch.stack(rows)

    def _voxels(self, y_pred: torch.Tensor, mask: torch.Tensor | None, one: slice) -> torch.Tensor:
        """Number of the voxels, or of pairs of a voxel and a class, of one item within its mask, ``[1]``."""
        inside = check_mask(None if mask is None else mask[one], y_pred, "y_pred")
        pairs = len(ensure_tuple(self.class_index)) if self.kind == "class" else 1
        return pairs * inside.sum().reshape(1)

    def _pool(self, rows: torch.Tensor) -> torch.Tensor:
        voxels = int(rows[:, -1].sum()) if self.denominator == "all" else None
        return rows.new_tensor(expected_calibration_error(self._sum(rows), voxels))

    def _sum(self, rows: torch.Tensor) -> torch.Tensor:
        return rows[:, :-1].sum(0).unflatten(0, (self.num_bins, 3))


class ItemCalibrationErrorMetric(ItemMetric):
    """
    Expected calibration error of each item over its own voxels.

    It serves a table of cases, their mean and standard deviation. Items that err in different directions do not
    compensate each other, unlike in :py:class:`ExpectedCalibrationErrorMetric`. The figures of Islam and Glocker 2021
    (SVLS) are means over batches of two cases.

    ``y_pred`` and ``y`` as in that metric. An item without a voxel that counts is undefined.

    Args:
        num_bins: see :py:class:`ExpectedCalibrationErrorMetric`, as the next seven.
        kind: ``"top_label"`` or ``"class"``.
        class_index: the class of ``kind="class"``, or several, see :py:func:`compute_calibration_bins`.
        soft_target: whether ``y`` is class probabilities.
        foreground_only: whether only voxels that a rater labels as foreground count.
        classes: the most probable classes that count.
        ignore_index: the label of void voxels.
        denominator: ``"counted"`` or ``"all"``.
        reduction: see :py:class:`~.metric.ItemMetric`.
        get_not_nans: see :py:class:`~.metric.ItemMetric`.

    Raises:
        ValueError: when there is no bin or ``kind`` is unknown.

    Example::

        >>> p, raters = torch.tensor([[[0.8, 0.4], [0.2, 0.6]]]), torch.tensor([[[0, 1], [0, 0]]])
        >>> ItemCalibrationErrorMetric(num_bins=2)(p, raters)
        tensor([[0.0500]], dtype=torch.float64)
    """

    weighted = ("y",)

    @check_arguments
    def __init__(
        self,
        num_bins: int = 10,
        kind: str = "top_label",
        class_index: int | Sequence[int] = 1,
        soft_target: bool = False,
        foreground_only: bool = False,
        classes: Sequence[int] | None = None,
        ignore_index: int | None = None,
        denominator: str = "counted",
        reduction: MetricReduction | str = MetricReduction.MEAN,
        get_not_nans: bool = False,
    ) -> None:
        super().__init__(reduction, get_not_nans)
        self.pooled = ExpectedCalibrationErrorMetric(
            num_bins, kind, class_index, soft_target, foreground_only, classes, ignore_index, denominator
        )

    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor, **given: torch.Tensor | None) -> torch.Tensor:
        """One value per item, ``[B, 1]``."""
        rows = self.pooled._compute_tensor(y_pred, y, **given)
        return torch.stack([self.pooled._pool(row[None]) for row in rows]).unsqueeze(1)


@check_arguments
def compute_calibration_bins(
    y_pred: torch.Tensor,
    y: torch.Tensor,
    *,
    num_bins: int = 10,
    kind: str = "top_label",
    class_index: int | Sequence[int] = 1,
    soft_target: bool = False,
    foreground_only: bool = False,
    classes: Sequence[int] | None = None,
    ignore_index: int | None = None,
    y_weights: torch.Tensor | None = None,
    mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """
    Sum count, confidence and accuracy of the voxels of a batch in bins of equal width of the confidence.

    ``kind="top_label"``: confidence is the probability of the most probable class, accuracy its frequency among the
    raters (Guo et al., On Calibration of Modern Neural Networks, ICML 2017, with one rater). ``kind="class"``: both are
    those of one class (the foreground of LIDC in Gao et al., Modeling Multimodal Aleatoric Uncertainty in Segmentation
    with Mixture of Stochastic Experts, ICLR 2023). A bin holds its upper limit and not its lower; the first
    holds 0 too. The bins of several batches, or processes, are added.

    Args:
        y_pred: marginal class probabilities ``[B, C, *S]``.
        y: the raters' label maps ``[B, R, *S]`` of integers in any type, floating types included, or with
            ``soft_target=True`` class probabilities ``[B, C, *S]``.
        num_bins: number of bins of equal width on [0, 1].
        kind: ``"top_label"`` or ``"class"``.
        class_index: the class of ``kind="class"``; of several each pair of a voxel and a class is counted, such as of
            the ten classes that switches concern in the multimodal Cityscapes of Kassapis et al. 2021
            (https://arxiv.org/abs/2006.13144). Not used for ``"top_label"``.
        soft_target: whether ``y`` is class probabilities.
        foreground_only: count only voxels in which ``y`` gives a class other than the background a positive share
            (Islam and Glocker 2021, see :py:class:`ExpectedCalibrationErrorMetric`).
        classes: of ``kind="top_label"``: count only voxels whose most probable class is one of these; None: all.
        ignore_index: the label of void voxels; one that any rater calls void does not count. A soft target has none.
        y_weights: ``[B, R]``; None: uniform; 0 for a missing rater, whose map may hold anything. A soft target takes
            none.
        mask: region ``[B, 1, *S]``, above 0 inside; None: everywhere.

    Returns:
        float64 ``[num_bins, 3]`` on the device of ``y_pred``: the number of voxels, the sum of their
        confidences and the sum of their accuracies.

    Raises:
        TypeError: when ``y_pred`` or ``y`` is no tensor.
        ValueError: when shapes do not match, values are no probabilities, a label inside the mask is outside the
            classes, weights are wrong or given for a soft target, or an option is unknown or out of range.

    Example::

        >>> p, raters = torch.tensor([[[0.8, 0.4], [0.2, 0.6]]]), torch.tensor([[[0, 1], [0, 0]]])
        >>> compute_calibration_bins(p, raters, num_bins=2)
        tensor([[0.0000, 0.0000, 0.0000],
                [2.0000, 1.4000, 1.5000]], dtype=torch.float64)
    """
    _check_options(num_bins, kind, class_index, classes)
    probabilities, frequency, inside = calibration_target(
        y_pred,
        y,
        soft_target=soft_target,
        foreground_only=foreground_only,
        ignore_index=ignore_index,
        y_weights=y_weights,
        mask=mask,
    )
    num_classes = probabilities.shape[1]
    if kind == "class":
        chosen = list(ensure_tuple(class_index))
        _check_within("class_index", chosen, num_classes)
        confidence, accuracy = probabilities[:, chosen], frequency[:, chosen]
        inside = inside.expand_as(confidence)
    else:
        confidence, top = probabilities.max(1, keepdim=True)
        accuracy = frequency.gather(1, top)
        if classes is not None:
            _check_within("classes", classes, num_classes)
            inside = inside & torch.isin(top, torch.tensor(classes, device=top.device))
    confidence, accuracy = confidence[inside], accuracy[inside]
    # In the dtype of the confidence, so that its own 0.1 is a limit; without limits at 0 and 1 no value lies outside.
    limits = torch.arange(1, num_bins, dtype=torch.float64, device=confidence.device) / num_bins
    index = torch.bucketize(confidence, limits.to(confidence.dtype))
    bins = torch.zeros(3, num_bins, dtype=torch.float64, device=confidence.device)
    for row, values in zip(bins, (torch.ones_like(confidence), confidence, accuracy), strict=True):
        row.index_add_(0, index, values.double())
    return bins.T.contiguous()


@check_arguments
def expected_calibration_error(bins: torch.Tensor, voxels: int | None = None) -> float:
    """
    Compute the expected calibration error, ``sum_m n_m / n |acc_m - conf_m|`` (Guo et al. 2017, equation 3).

    Args:
        bins: ``[num_bins, 3]``, as :py:func:`compute_calibration_bins` returns them.
        voxels: the n to divide by, at least the number of voxels in the bins; None: that number.

    Returns:
        the error, in [0, 1]; NaN where the bins hold no voxel.

    Raises:
        ValueError: when ``bins`` has another shape, a value is negative or not finite, or ``voxels`` is too few.

    Example::

        >>> bins = torch.tensor([[0, 0, 0], [2, 1.4, 1.5]], dtype=torch.float64)
        >>> round(expected_calibration_error(bins), 4)
        0.05
    """
    if bins.ndim != 2 or bins.shape[1] != 3 or not len(bins) or not bool((bins.isfinite() & (bins >= 0)).all()):
        raise ValueError(
            f"bins must be [num_bins, 3] finite sums, none negative, got {tuple(bins.shape)}, {bins.tolist()!r:.80}."
        )
    count, confidence, accuracy = bins.unbind(1)
    counted = count.sum().item()
    if voxels is not None and voxels < counted:
        raise ValueError(f"voxels must be at least the {counted:g} voxels in the bins, got {voxels}.")
    if not counted:
        return math.nan
    return (accuracy - confidence).abs().sum().item() / (counted if voxels is None else voxels)


def calibration_target(
    y_pred: torch.Tensor,
    y: torch.Tensor,
    *,
    soft_target: bool,
    foreground_only: bool,
    ignore_index: int | None = None,
    y_weights: torch.Tensor | None,
    mask: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """
    Check the arguments of a calibration error; see :py:func:`compute_calibration_bins`, whose arguments they are.

    Returns:
        the probabilities and the frequencies of the classes, plain tensors ``[B, C, *S]``, and boolean
        ``[B, 1, *S]``, true where a voxel counts.

    Raises:
        TypeError: when ``y_pred`` or ``y`` is no tensor.
        ValueError: when shapes do not match, values are no probabilities, a label inside the mask is outside the
            classes, or weights are wrong or given for a soft target.
    """
    probabilities = check_probabilities("y_pred", y_pred)
    inside = check_mask(mask, probabilities, "y_pred")
    if soft_target:
        if y_weights is not None:
            raise ValueError("y_weights weigh raters, and a soft target has none: let y_weights be None.")
        if ignore_index is not None:
            raise ValueError(
                f"ignore_index is a label, and a soft target has none, got {ignore_index}: give void voxels by mask."
            )
        frequency = check_probabilities("y", y)
        if frequency.shape != probabilities.shape:
            raise ValueError(
                f"with soft_target=True y must have the shape of y_pred {tuple(probabilities.shape)}, got "
                f"{tuple(frequency.shape)}."
            )
    else:
        probabilities, y = check_label_maps(y_pred=probabilities, y=y)
        weights = check_weights(y_weights, y, "y_weights", "y")
        if ignore_index is not None:
            present = (weights > 0).reshape(*weights.shape, *[1] * (y.ndim - 2)).to(y.device)
            inside = inside & ~((y == ignore_index) & present).any(1, keepdim=True).to(inside.device)
        refuse_channels_as_raters(y, y_weights, probabilities.shape[1], mask=inside)
        frequency = label_frequency("y", y, weights, probabilities.shape[1], inside)
    if foreground_only:
        inside = inside & (frequency[:, 1:].sum(1, keepdim=True) > 0)
    return probabilities, frequency, inside


def _check_options(
    num_bins: int, kind: str, class_index: int | Sequence[int], classes: Sequence[int] | None = None
) -> None:
    check_at_least(1, num_bins=num_bins)
    check_option("kind", kind, ("top_label", "class"))
    for name, given in (("class_index", class_index), ("classes", classes)):
        chosen = [0] if given is None else ensure_tuple(given)
        if not chosen or len(set(chosen)) != len(chosen):
            raise ValueError(f"{name} must be a class, or several different ones, got {given}.")
        for index in chosen:
            check_at_least(0, **{name: index})
    if classes is not None and kind == "class":
        raise ValueError(
            f'classes are of kind="top_label", got {list(classes)}: name those of kind="class" as class_index.'
        )


def _check_within(name: str, classes: Sequence[int], num_classes: int) -> None:
    if not all(index < num_classes for index in classes):
        raise ValueError(f"{name} must be of the {num_classes} classes, got {list(classes)}.")
