# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import NamedTuple

import torch
from monai.utils import MetricReduction

from monai_stochseg.distributions import check_weights
from monai_stochseg.distributions.arguments import check_arguments

from .class_frequency import check_mask, check_probabilities, label_frequency
from .label_maps import check_label_maps
from .metric import ItemMetric

__all__ = ["EntropyDecomposition", "EntropyDecompositionMetric", "compute_entropy_decomposition"]


class EntropyDecomposition(NamedTuple):
    """Entropies in nats, each ``[B, 1, *S]``: ``predictive`` is the sum of ``expected`` and ``mutual_information``."""

    predictive: torch.Tensor
    expected: torch.Tensor
    mutual_information: torch.Tensor


class EntropyDecompositionMetric(ItemMetric):
    """
    Means over the voxels of the predictive entropy and of its two parts.

    Called with the samples alone, as :py:class:`~.sample_diversity.SampleDiversityMetric`, weights included; ``mask``
    ``[B, 1, *S]`` by keyword. An item whose mask is empty is undefined (NaN). What is computed:
    :py:func:`compute_entropy_decomposition`. The buffer is ``[cases, 3]`` with columns :py:attr:`names`.

    Args:
        num_classes: number of classes where samples are label maps, None where they are probabilities.
        reduction: see :py:class:`~.metric.ItemMetric`; the default is the mean of each column over the cases.
        get_not_nans: see :py:class:`~.metric.ItemMetric`.

    Example::

        >>> metric = EntropyDecompositionMetric(num_classes=2)
        >>> metric(torch.tensor([[[0, 0], [0, 1]]]))
        tensor([[0.3466, 0.0000, 0.3466]])
        >>> metric.names
        ['predictive', 'expected', 'mutual_information']
    """

    weighted = ("y_pred",)
    one_set = True

    @check_arguments
    def __init__(
        self,
        num_classes: int | None = None,
        reduction: MetricReduction | str = MetricReduction.MEAN_BATCH,
        get_not_nans: bool = False,
    ) -> None:
        super().__init__(reduction, get_not_nans)
        self.num_classes = num_classes

    @property
    def names(self) -> list[str]:
        """Names of the columns of the buffer."""
        return list(EntropyDecomposition._fields)

    def _compute_tensor(
        self,
        y_pred: torch.Tensor,
        y: None = None,
        y_pred_weights: torch.Tensor | None = None,
        mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The three means of each item, ``[B, 3]``."""
        parts = compute_entropy_decomposition(y_pred, num_classes=self.num_classes, y_pred_weights=y_pred_weights)
        inside = check_mask(mask, parts.predictive, "y_pred")
        return torch.stack([(part * inside).flatten(1).sum(1) / inside.flatten(1).sum(1) for part in parts], dim=1)


@check_arguments
def compute_entropy_decomposition(
    y_pred: torch.Tensor, *, num_classes: int | None = None, y_pred_weights: torch.Tensor | None = None
) -> EntropyDecomposition:
    """
    Split the predictive entropy into expected entropy and mutual information, per voxel.

    ``H(E p) = E H(p) + I``: the entropy of the samples' mean is the mean of their entropies, what each sample leaves
    open, plus the mutual information of label and sample, what the samples differ in. Depeweg et al., Decomposition of
    Uncertainty in Bayesian Deep Learning for Efficient and Risk-sensitive Learning, ICML 2018. A label map leaves
    nothing open: its entropy is 0, and all is mutual information.

    Args:
        y_pred: the samples' class probabilities ``[B, N, C, *S]``, or their label maps ``[B, N, *S]`` where
            ``num_classes`` is given.
        num_classes: number of classes of label maps, the background included; None: ``y_pred`` are probabilities.
        y_pred_weights: ``[B, N]``; None: uniform.

    Returns:
        predictive entropy, expected entropy and mutual information, each ``[B, 1, *S]`` in nats, in PyTorch's default
        dtype, on the device of ``y_pred``.

    Raises:
        TypeError: when ``y_pred`` is no tensor.
        ValueError: when the shape does not fit, a label is outside the classes, ``y_pred`` holds no probabilities where
            ``num_classes`` is None, or weights are wrong.

    Example::

        >>> parts = compute_entropy_decomposition(torch.tensor([[[0, 0], [0, 1]]]), num_classes=2)
        >>> parts.mutual_information
        tensor([[[0.0000, 0.6931]]])
    """
    if num_classes is None:
        y_pred = check_probabilities("y_pred", y_pred, class_axis=2)
        weights = check_weights(y_pred_weights, y_pred, "y_pred_weights", "y_pred")
        mean = torch.einsum("bn,bn...->b...", weights, y_pred)
        expected = torch.einsum("bn,bn...->b...", weights, torch.special.entr(y_pred).sum(2))[:, None]
    else:
        (y_pred,) = check_label_maps(y_pred=y_pred)
        weights = check_weights(y_pred_weights, y_pred, "y_pred_weights", "y_pred")
        mean = label_frequency("y_pred", y_pred, weights, num_classes, check_mask(None, y_pred, "y_pred"))
        expected = torch.zeros_like(mean[:, :1])
    predictive = torch.special.entr(mean).sum(1, keepdim=True)
    # Jensen's inequality holds up to rounding.
    return EntropyDecomposition(predictive, expected, (predictive - expected).clamp(min=0))
