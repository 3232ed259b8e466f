# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.utils import MetricReduction

from monai_stochseg.distributions.arguments import check_arguments

from .map_sets import counted_pairs
from .metric import ItemMetric

__all__ = ["AmbiguityAccuracyMetric", "check_classes", "compute_ambiguity", "fit_ambiguity_threshold"]

# Shares are sums of weights: one that differs less from the threshold equals it.
_ROUNDING = 1e-6


class AmbiguityAccuracyMetric(ItemMetric):
    """
    Share of the images for which the samples say rightly whether the raters disagree on a structure's presence.

    An image is ambiguous where some raters show the structure and some do not. It is predicted to be ambiguous where
    the share of the samples that show it lies in the open interval ``(threshold, 1 - threshold)``: by default, where
    both kinds of sample occur. The question is that of appendix E of Kohl et al., A Probabilistic U-Net for
    Segmentation of Ambiguous Images, NeurIPS 2018. Compare with the share of ambiguous images in the data: a constant
    answer has that accuracy. A threshold of the method's own: :py:func:`fit_ambiguity_threshold`.

    Called as :py:class:`~.energy_distance.GeneralizedEnergyDistanceMetric`, weights included. The shares:
    :py:func:`compute_ambiguity`.

    Args:
        threshold: a share of the samples that does not count as disagreement, in [0, 0.5).
        classes: the classes of the structure.
        ignore_index: label of void voxels, see :py:func:`compute_ambiguity`.
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

    @check_arguments
    def __init__(
        self,
        threshold: float = 0.0,
        classes: Sequence[int] = (1,),
        ignore_index: int | None = None,
        reduction: MetricReduction | str = MetricReduction.MEAN,
        get_not_nans: bool = False,
    ) -> None:
        super().__init__(reduction, get_not_nans)
        if not 0 <= threshold < 0.5:
            raise ValueError(f"threshold must lie in [0, 0.5), got {threshold}.")
        check_classes(classes)
        self.threshold = threshold
        self.classes = classes
        self.ignore_index = ignore_index

    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor, **weights: torch.Tensor | None) -> torch.Tensor:
        """1 or 0 per item, ``[B, 1]``."""
        shares = compute_ambiguity(y_pred, y, classes=self.classes, ignore_index=self.ignore_index, **weights)
        predicted, truth = torch.minimum(shares, 1 - shares).unbind(1)
        correct = _is_above(predicted, self.threshold) == _is_above(truth, 0.0)
        return correct.to(shares).masked_fill(shares.isnan().any(1), torch.nan).unsqueeze(1)


@check_arguments
def fit_ambiguity_threshold(shares: torch.Tensor) -> tuple[float, float]:
    """
    Find the ``threshold`` of :py:class:`AmbiguityAccuracyMetric` that is right for most images, such as those of the
    validation part, as in appendix E of Kohl et al. 2018 (https://arxiv.org/abs/1806.05034).

    The candidates are 0 and the images' own smaller share, of the samples that show the structure or that do not. Of
    equally good ones it is the lowest. An image in which half of the samples show it is ambiguous by any threshold.

    Args:
        shares: ``[items, 2]``, as :py:func:`compute_ambiguity` or
            :py:meth:`~.rank_correlation.EmptyFractionCorrelationMetric.fractions` return them: of samples and raters.
            An item with an undefined value (NaN) is left out.

    Returns:
        the threshold, in [0, 0.5), and the accuracy that it has on these items.

    Raises:
        ValueError: when ``shares`` has another shape, a share is outside [0, 1], or no item is defined.

    Example::

        >>> fit_ambiguity_threshold(torch.tensor([[0.125, 0.0], [0.375, 0.5], [0.875, 1.0], [0.75, 0.25]]))
        (0.125, 1.0)
    """
    if shares.ndim != 2 or shares.shape[1] != 2:
        raise ValueError(f"shares must have shape [items, 2], got {tuple(shares.shape)}.")
    defined = shares[~shares.isnan().any(1)].double().cpu()
    if not len(defined):
        raise ValueError(f"shares must hold at least one item without NaN, got {len(shares)} items and none of them.")
    if bool(((defined < 0) | (defined > 1)).any()):
        raise ValueError(f"shares must lie in [0, 1], got {shares.tolist()}.")
    smaller, truth = torch.minimum(defined, 1 - defined).unbind(1)
    candidates = torch.cat([smaller.new_zeros(1), smaller[smaller < 0.5 - _ROUNDING]]).unique()  # sorted
    ambiguous = _is_above(truth, 0.0)
    accuracy = torch.stack([(_is_above(smaller, c) == ambiguous).double().mean() for c in candidates.tolist()])
    best = int(accuracy.argmax())  # the first of equal ones
    return candidates[best].item(), accuracy[best].item()


def _is_above(share: torch.Tensor, threshold: float) -> torch.Tensor:
    return share > threshold + _ROUNDING


@check_arguments
def compute_ambiguity(
    y_pred: torch.Tensor,
    y: torch.Tensor,
    *,
    classes: Sequence[int] = (1,),
    ignore_index: int | None = None,
    y_pred_weights: torch.Tensor | None = None,
    y_weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """
    Compute the share of the samples, and of the raters, that show a structure at all, per item of the batch.

    Args:
        y_pred: sampled label maps ``[B, N, *S]`` of integers in any type, floating types included.
        y: the raters' label maps ``[B, R, *S]``.
        classes: the classes of the structure; any other label does not show it.
        ignore_index: label of void voxels. A voxel that is void in any map of an item is left out for the whole item,
            as in :py:class:`~.pairwise_distance.LabelMapDistance`. None: there are none.
        y_pred_weights: ``[B, N]``, non-negative, see :py:func:`monai_stochseg.distributions.check_weights`; None:
            uniform. A map of weight 0 may hold anything.
        y_weights: ``[B, R]``, likewise; 0 for a missing rater.

    Returns:
        ``[B, 2]``, in [0, 1], samples and then raters, in PyTorch's default dtype, on the device of ``y_pred``; NaN for
        an item whose voxels are all void.

    Raises:
        TypeError: when ``y_pred`` or ``y`` is no tensor.
        ValueError: when shapes do not match, a label is no integer, or negative and not ``ignore_index``, ``y`` is
            one-hot, there is no class, or weights are wrong.

    Example::

        >>> samples, raters = torch.tensor([[[0, 1], [0, 0]]]), torch.tensor([[[1, 1], [0, 1], [0, 0], [0, 0]]])
        >>> compute_ambiguity(samples, raters, y_weights=torch.tensor([[1, 1, 1, 0]]))
        tensor([[0.5000, 0.6667]])
    """
    check_classes(classes)
    values = []
    for samples, p, raters, q in counted_pairs(y_pred, y, y_pred_weights, y_weights):
        valid = torch.ones_like(samples[0], dtype=torch.bool)
        for name, maps in (("y_pred", samples), ("y", raters)):
            for row in maps:
                valid &= _valid(name, row, ignore_index)
        shares = torch.stack([_share(maps, weights, classes, valid) for maps, weights in ((samples, p), (raters, q))])
        values.append(shares if valid.any() else shares.fill_(torch.nan))
    return torch.stack(values)


def _valid(name: str, row: torch.Tensor, ignore_index: int | None) -> torch.Tensor:
    """Which voxels of a map are not void; a ValueError for a negative label."""
    valid = torch.ones_like(row, dtype=torch.bool) if ignore_index is None else row.long() != ignore_index
    if bool(((row < 0) & valid).any()):
        raise ValueError(
            f"{name} has the label {int(row[valid].min())}, which is negative: name a void label as ignore_index (now "
            f"{ignore_index})."
        )
    return valid


def _share(
    maps: Sequence[torch.Tensor], weights: torch.Tensor, classes: Sequence[int], valid: torch.Tensor
) -> torch.Tensor:
    """The share of the maps that show the structure."""
    shows = [(torch.isin(row, torch.tensor(classes, device=row.device)) & valid).any() for row in maps]
    return (weights * torch.stack(shows)).sum() / weights.sum()


def check_classes(classes: Sequence[int], name: str = "classes") -> None:
    """Raise a ValueError when a structure has no class, one twice, or a negative one."""
    if not len(classes) or len(set(classes)) < len(classes) or min(classes) < 0:
        raise ValueError(
            f"{name} must name one or more classes of the structure, each once, none negative, got {list(classes)}."
        )
