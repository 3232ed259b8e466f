# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import torch
from monai.utils import MetricReduction

from monai_stochseg.distributions import check_weights
from monai_stochseg.distributions.arguments import check_arguments

from .class_frequency import check_mask, check_probabilities, label_frequency
from .label_maps import check_label_maps, refuse_channels_as_raters
from .metric import ItemMetric

__all__ = ["UncertaintyCorrelationMetric", "compute_uncertainty_correlation"]

# Floor of a sample's probabilities. With label maps the correlation does not depend on it.
_LEAST_PROBABILITY = 1e-8

# A map of cross entropies that spans less, in nats, is constant: the rest is rounding.
_CONSTANT = 1e-5


class UncertaintyCorrelationMetric(ItemMetric):
    """
    Normalised cross-correlation of the samples' uncertainty with their disagreement with the raters.

    ``y_pred`` are samples, ``y`` raters ``[B, R, *S]``, or both lists of B items, in which N and R may differ;
    ``y_pred_weights``, ``y_weights`` and ``mask`` by keyword. What is computed:
    :py:func:`compute_uncertainty_correlation`.

    Args:
        num_classes: number of classes where samples are label maps, None where they are probabilities.
        reduction: see :py:class:`~.metric.ItemMetric`.
        get_not_nans: see :py:class:`~.metric.ItemMetric`.

    Example::

        >>> samples, raters = torch.tensor([[[0, 0, 1], [0, 1, 1], [0, 0, 1]]]), torch.tensor([[[0, 1, 1]]])
        >>> UncertaintyCorrelationMetric(num_classes=2)(samples, raters)
        tensor([[1.0000]])
    """

    weighted = ("y_pred", "y")

    @check_arguments
    def __init__(
        self,
        num_classes: int | None = None,
        reduction: MetricReduction | str = MetricReduction.MEAN,
        get_not_nans: bool = False,
    ) -> None:
        super().__init__(reduction, get_not_nans)
        self.num_classes = num_classes

    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor, **given: torch.Tensor | None) -> torch.Tensor:
        """One value per item, ``[B, 1]``."""
        return compute_uncertainty_correlation(y_pred, y, num_classes=self.num_classes, **given).unsqueeze(1)


@check_arguments
def compute_uncertainty_correlation(
    y_pred: torch.Tensor,
    y: torch.Tensor,
    *,
    num_classes: int | None = None,
    y_pred_weights: torch.Tensor | None = None,
    y_weights: torch.Tensor | None = None,
    mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """
    Compute the normalised cross-correlation of uncertainty and disagreement, per item of the batch.

    ``E_y NCC(E_s CE(s_mean, s), E_s CE(y, s))``: over the voxels, Pearson's correlation of the mean cross entropy of
    the samples s with their own mean, and with a rater's map y; averaged over the raters. S_NCC of Baumgartner et al.,
    PHiSeg: Capturing Uncertainty in Medical Image Segmentation, MICCAI 2019, with ``CE(a, b) = -sum_c a_c log b_c``.
    For label maps the two are, up to one factor, ``1 - sum_c s_mean_c^2`` and ``1 - s_mean_y``.

    Args:
        y_pred: the samples' class probabilities ``[B, N, C, *S]`` (the paper), floored at 1e-8, or their label maps
            ``[B, N, *S]`` where ``num_classes`` is given.
        y: the raters' label maps ``[B, R, *S]`` of integers in any type, floating types included.
        num_classes: number of classes of label maps, the background included; None: ``y_pred`` are probabilities.
        y_pred_weights: ``[B, N]``; None: uniform.
        y_weights: ``[B, R]``; None: uniform; 0 for a missing rater, whose map may hold anything.
        mask: region ``[B, 1, *S]``, above 0 inside; None: everywhere.

    Returns:
        ``[B]``, in [-1, 1], in PyTorch's default dtype, on the device of ``y_pred``. A rater for whom either map is
        constant inside the mask, to 1e-5 nats, has no correlation and is left out; NaN where all are, as
        when all samples agree.

    Raises:
        TypeError: when ``y_pred`` or ``y`` is no tensor.
        ValueError: when shapes do not match, a label inside the mask is outside the classes, ``y_pred`` holds no
            probabilities where ``num_classes`` is None, ``y`` is one-hot, or weights are wrong.

    Example::

        >>> samples, raters = torch.tensor([[[0, 0, 1], [0, 1, 1], [0, 0, 1]]]), torch.tensor([[[0, 1, 1]]])
        >>> compute_uncertainty_correlation(samples, raters, num_classes=2)
        tensor([1.0000])
    """
    if num_classes is None:
        y_pred = check_probabilities("y_pred", y_pred, class_axis=2)
        _, y = check_label_maps(y_pred=y_pred[:, :, 0], y=y)
    else:
        y_pred, y = check_label_maps(y_pred=y_pred, y=y)
    inside = check_mask(mask, y, "y")
    s_weights = check_weights(y_pred_weights, y_pred, "y_pred_weights", "y_pred")
    r_weights = check_weights(y_weights, y, "y_weights", "y")
    if num_classes is None:
        num_classes = y_pred.shape[2]
        mean = torch.einsum("bn,bn...->b...", s_weights, y_pred)
        log = torch.einsum("bn,bn...->b...", s_weights, y_pred.clamp(min=_LEAST_PROBABILITY).log())
    else:
        mean = label_frequency("y_pred", y_pred, s_weights, num_classes, inside)
        log = math.log(_LEAST_PROBABILITY) * (1 - mean)
    refuse_channels_as_raters(y, y_weights, num_classes, mask=inside)
    label_frequency("y", y, r_weights, num_classes, inside)  # checks the labels
    known = (r_weights > 0).reshape(*r_weights.shape, *[1] * (y.ndim - 2)) & inside
    uncertainty = -(mean * log).sum(1)
    disagreement = -log.gather(1, y.where(known, 0).long())
    values = []
    for item, region in enumerate(inside[:, 0]):
        correlation = _correlation(uncertainty[item][region], disagreement[item][:, region])
        q = r_weights[item] * ~correlation.isnan()
        values.append((q * correlation.nan_to_num()).sum() / q.sum())
    return torch.stack(values)


def _correlation(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Pearson's correlation of ``[V]`` with each row of ``[R, V]``; NaN where one of the two is constant."""
    if not x.numel():
        return y.new_full(y.shape[:1], math.nan)
    constant = (x.max() - x.min() < _CONSTANT) | (y.amax(1) - y.amin(1) < _CONSTANT)
    x, y = x - x.mean(), y - y.mean(1, keepdim=True)
    return torch.cosine_similarity(x[None], y, dim=1, eps=0).masked_fill(constant, math.nan)
