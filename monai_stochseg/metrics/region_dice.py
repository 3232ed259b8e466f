# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from monai.metrics import compute_dice
from monai.utils import MetricReduction

from monai_stochseg.distributions.arguments import check_arguments, check_at_least

from .ambiguity import check_classes
from .label_maps import check_integers, check_label_maps, refuse_channels_as_raters
from .metric import ItemMetric

# Merged classes of BraTS, in this package's numbering: 1 NET (necrosis and non-enhancing), 2 OD (oedema), 3 ET.
BRATS_REGIONS: Mapping[str, Sequence[int]] = {"WT": (1, 2, 3), "TC": (1, 3), "NET": (1,), "OD": (2,), "ET": (3,)}


@check_arguments
def compute_region_dice(y_pred: torch.Tensor, y: torch.Tensor, regions: Mapping[str, Sequence[int]]) -> torch.Tensor:
    """
    Compute the Dice of label maps against raters for regions of one or more classes, by MONAI's ``compute_dice``.

    Args:
        y_pred: label maps ``[B, N, *S]``.
        y: raters' label maps ``[B, R, *S]``.
        regions: name and classes of each of the K regions.

    Returns:
        ``[B, N, K]``, the mean over those raters who drew the region, NaN where no rater did.

    Raises:
        TypeError: when label maps are no tensor.
        ValueError: when there is no region or no rater, the shapes do not fit, a label is no integer, or ``y`` is
            one-hot.

    Example::

        >>> answer, raters = torch.tensor([[[[0, 1], [1, 2]]]]), torch.tensor([[[[0, 1], [0, 2]], [[0, 1], [1, 1]]]])
        >>> compute_region_dice(answer, raters, {"whole": (1, 2), "core": (2,)})
        tensor([[[0.9000, 1.0000]]])
    """
    return compare_regions(compute_dice, y_pred, y, regions)


def compare_regions(
    score: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    y_pred: torch.Tensor,
    y: torch.Tensor,
    regions: Mapping[str, Sequence[int]],
) -> torch.Tensor:
    """
    Score label maps against raters for regions, each of one or more merged classes.

    Args:
        score: of binary maps ``[B, K, *S]`` of the regions in a prediction and in a rater's map: ``[B, K]``.
        y_pred: label maps ``[B, N, *S]``.
        y: raters' label maps ``[B, R, *S]``.
        regions: name and classes of each of the K regions.

    Returns:
        ``[B, N, K]``, the mean over those raters for whom the score is defined, NaN where it is for no rater.

    Raises:
        TypeError: when label maps are no tensor.
        ValueError: when there is no region or no rater, the shapes do not fit, a label is no integer, or ``y`` is
            one-hot.
    """
    num_classes = classes_of(regions)
    y_pred, y = check_label_maps(y_pred=y_pred, y=y)
    for name, labels in (("y_pred", y_pred), ("y", y)):
        check_integers(name, labels)
    refuse_channels_as_raters(y, None)
    refuse_channels_as_raters(y, None, num_classes)
    raters = [_regions(y[:, r], regions) for r in range(y.shape[1])]
    result = []
    for n in range(y_pred.shape[1]):
        pred = _regions(y_pred[:, n], regions)
        result.append(torch.stack([score(pred, rater) for rater in raters]).nanmean(0))
    return torch.stack(result, dim=1)


@check_arguments
def compute_sample_dice(
    y_pred: torch.Tensor, y: torch.Tensor, regions: Mapping[str, Sequence[int]], quantile: float = 0.95
) -> torch.Tensor:
    """
    Compute how the Dice of the samples compares with that of the single answer (Monteiro et al. 2020, figure 5).

    Args:
        y_pred: the single answer and then the samples, ``[B, 1 + N, *S]``.
        y: raters' label maps ``[B, R, *S]``.
        regions: name and classes of each of the K regions.
        quantile: of the samples' Dice.

    Returns:
        ``[B, 3, K]``: Dice of the single answer, quantile of the samples' Dice, and the share of samples whose Dice is
        greater than the single answer's; NaN where no rater drew the region.

    Raises:
        ValueError: when there is no sample, or as in :py:func:`compute_region_dice`.

    Example::

        >>> maps = torch.tensor([[[[0, 1], [1, 1]], [[0, 1], [0, 1]], [[0, 0], [0, 1]]]])
        >>> compute_sample_dice(maps, torch.tensor([[[[0, 1], [0, 1]]]]), {"whole": (1,)}, quantile=0.5)
        tensor([[[0.8000],
                 [0.8333],
                 [0.5000]]])
    """
    _check_quantile(quantile)
    y_pred, y = check_label_maps(y_pred=y_pred, y=y)
    if y_pred.shape[1] < 2:
        raise ValueError(f"y_pred must hold the single answer and at least one sample, got {y_pred.shape[1]} map.")
    dice = compute_region_dice(y_pred, y, regions)
    mode, samples = dice[:, 0], dice[:, 1:]
    better = (samples > mode[:, None]).to(dice).mean(1).masked_fill(mode.isnan(), torch.nan)
    return torch.stack([mode, samples.quantile(quantile, dim=1), better], dim=1)


class RegionDiceMetric(ItemMetric):
    """
    Dice of label maps ``[B, N, *S]`` against raters ``[B, R, *S]`` for regions.

    What is computed: :py:func:`compute_region_dice`; several maps are averaged.

    Args:
        regions: name and classes of each of the K regions; the default is BraTS's.
        reduction: MONAI's metric reduction over ``[B, K]``; undefined (NaN) values are left out.
        rater: index of the rater to evaluate against; None: the mean over the raters.

    Example::

        >>> answer, raters = torch.tensor([[[[0, 1], [1, 2]]]]), torch.tensor([[[[0, 1], [0, 2]], [[0, 1], [1, 1]]]])
        >>> metric = RegionDiceMetric({"whole": (1, 2), "core": (2,)})
        >>> metric(answer, raters)
        tensor([[0.9000, 1.0000]])
    """

    @check_arguments
    def __init__(
        self,
        regions: Mapping[str, Sequence[int]] = BRATS_REGIONS,
        reduction: MetricReduction | str = MetricReduction.MEAN,
        rater: int | None = None,
    ) -> None:
        super().__init__(reduction)
        classes_of(regions)
        if rater is not None:
            check_at_least(0, rater=rater)
        self.regions = regions
        self.rater = rater

    @property
    def names(self) -> list[str]:
        """Names of the columns of the buffer."""
        return list(self.regions)

    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return compute_region_dice(y_pred, select_rater(y, self.rater, self.regions), self.regions).mean(1)


class SampleDiceMetric(RegionDiceMetric):
    """
    Dice of the single answer, quantile of the samples' Dice, and share of the samples that are better, by region.

    What is computed: :py:func:`compute_sample_dice`. The buffer is ``[cases, 3 * K]`` with columns :py:attr:`names`.

    Args:
        regions: name and classes of each of the K regions; the default is BraTS's.
        quantile: of the samples' Dice.
        reduction: MONAI's metric reduction over ``[B, 3 * K]``; the default is the mean of each column over the cases.

    Raises:
        ValueError: when ``quantile`` is outside [0, 1].

    Example::

        >>> metric = SampleDiceMetric({"whole": (1,)}, quantile=0.5)
        >>> maps = torch.tensor([[[[0, 1], [1, 1]], [[0, 1], [0, 1]], [[0, 0], [0, 1]]]])
        >>> metric(maps, torch.tensor([[[[0, 1], [0, 1]]]]))
        tensor([[0.8000, 0.8333, 0.5000]])
        >>> metric.names
        ['dice_whole', 'dice_q50_whole', 'better_than_mode_whole']
    """

    @check_arguments
    def __init__(
        self,
        regions: Mapping[str, Sequence[int]] = BRATS_REGIONS,
        quantile: float = 0.95,
        reduction: MetricReduction | str = MetricReduction.MEAN_BATCH,
    ) -> None:
        super().__init__(regions, reduction)
        _check_quantile(quantile)
        self.quantile = quantile

    @property
    def names(self) -> list[str]:
        """Names of the columns of the buffer."""
        statistics = ("dice", f"dice_q{100 * self.quantile:g}", "better_than_mode")
        return [f"{statistic}_{region}" for statistic in statistics for region in self.regions]

    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return compute_sample_dice(y_pred, y, self.regions, self.quantile).flatten(1)


def classes_of(regions: Mapping[str, Sequence[int]]) -> int:
    """
    The least number of classes of which the regions can be, the background included.

    Raises:
        ValueError: when there is no region, or one has no class, one twice, or one that is no class.
    """
    if not regions:
        raise ValueError("regions must name at least one region, got none.")
    for name, classes in regions.items():
        check_classes(classes, f"regions: {name}")
    return 1 + max(max(classes) for classes in regions.values())


def _check_quantile(quantile: float) -> None:
    if not 0 <= quantile <= 1:
        raise ValueError(f"quantile must lie in [0, 1], got {quantile}.")


def select_rater(y: torch.Tensor, rater: int | None, regions: Mapping[str, Sequence[int]]) -> torch.Tensor:
    """
    One rater of ``[B, R, *S]``, as ``[B, 1, *S]``; None is all of them.

    Raises:
        ValueError: when there is no such rater, or ``y`` is no integer labels of raters.
    """
    (y,) = check_label_maps(y=y)
    check_integers("y", y)
    refuse_channels_as_raters(y, None)
    refuse_channels_as_raters(y, None, classes_of(regions))
    if rater is None:
        return y
    if not 0 <= rater < y.shape[1]:
        raise ValueError(f"rater must be one of the {y.shape[1]} raters of y, 0 to {y.shape[1] - 1}, got {rater}.")
    return y[:, rater : rater + 1]


def _regions(labels: torch.Tensor, regions: Mapping[str, Sequence[int]]) -> torch.Tensor:
    """Binary maps ``[B, K, *S]`` of a label map ``[B, *S]``."""
    binary = [torch.isin(labels, torch.tensor(classes, device=labels.device)) for classes in regions.values()]
    return torch.stack(binary, dim=1).float()
