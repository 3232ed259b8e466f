# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import NamedTuple

import torch
from monai.utils import MetricReduction

from monai_stochseg.distributions import check_weights
from monai_stochseg.distributions.arguments import check_arguments, check_at_least

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
        num_groups: number of groups of samples that share a draw of the network's weights, one group after the other.
        reduction: see :py:class:`~.metric.ItemMetric`; the default is the mean of each column over the cases.
        get_not_nans: see :py:class:`~.metric.ItemMetric`.

    Example::

        >>> metric = EntropyDecompositionMetric(num_classes=2)
        >>> metric(torch.tensor([[[0, 0], [0, 1]]]))
        tensor([[0.3466, 0.0000, 0.3466]])
        >>> metric.names
        ['predictive', 'expected', 'mutual_information']

    Raises:
        ValueError: for a num_groups below 1.
    """

    weighted = ("y_pred",)
    one_set = True

    @check_arguments
    def __init__(
        self,
        num_classes: int | None = None,
        num_groups: int | None = None,
        reduction: MetricReduction | str = MetricReduction.MEAN_BATCH,
        get_not_nans: bool = False,
    ) -> None:
        super().__init__(reduction, get_not_nans)
        check_at_least(1, num_groups=1 if num_groups is None else num_groups)
        self.num_classes = num_classes
        self.num_groups = num_groups

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
        parts = compute_entropy_decomposition(
            y_pred, num_classes=self.num_classes, num_groups=self.num_groups, y_pred_weights=y_pred_weights
        )
        inside = check_mask(mask, parts.predictive, "y_pred")
        return torch.stack([(part * inside).flatten(1).sum(1) / inside.flatten(1).sum(1) for part in parts], dim=1)


@check_arguments
def compute_entropy_decomposition(
    y_pred: torch.Tensor,
    *,
    num_classes: int | None = None,
    num_groups: int | None = None,
    y_pred_weights: torch.Tensor | None = None,
) -> EntropyDecomposition:
    """
    Split the predictive entropy into expected entropy and mutual information, per voxel.

    ``H(E p) = E H(p) + I``: the entropy of the samples' mean is the mean of their entropies, what each sample leaves
    open, plus the mutual information of label and sample, what the samples differ in. Depeweg et al., Decomposition of
    Uncertainty in Bayesian Deep Learning for Efficient and Risk-sensitive Learning, ICML 2018. A label map leaves
    nothing open: its entropy is 0, and all is mutual information.

    With ``num_groups`` the samples come in groups of equal size, one after the other, that share a draw of the
    network's weights, and each group's mean stands in the place of a sample: the expected entropy is then aleatoric,
    what is open given the weights, by the latent too, and the mutual information of label and weights is epistemic (Hu
    et al. 2019, https://arxiv.org/abs/1907.01949, part the two so by variance). A group's mean of few label maps has
    too little entropy: give many, or probabilities.

    Args:
        y_pred: the samples' class probabilities ``[B, N, C, *S]``, or their label maps ``[B, N, *S]`` where
            ``num_classes`` is given.
        num_classes: number of classes of label maps, the background included; None: ``y_pred`` are probabilities.
        num_groups: number of groups; N is a multiple of it. None: each sample stands for itself.
        y_pred_weights: ``[B, N]``; None: uniform.

    Returns:
        predictive entropy, expected entropy and mutual information, each ``[B, 1, *S]`` in nats, in PyTorch's default
        dtype, on the device of ``y_pred``.

    Raises:
        TypeError: when ``y_pred`` is no tensor.
        ValueError: when the shape does not fit, a label is outside the classes, ``y_pred`` holds no probabilities where
            ``num_classes`` is None, weights are wrong, or N is no multiple of ``num_groups``.

    Example::

        >>> parts = compute_entropy_decomposition(torch.tensor([[[0, 0], [0, 1]]]), num_classes=2)
        >>> parts.mutual_information
        tensor([[[0.0000, 0.6931]]])
    """
    if num_groups is not None:
        y_pred, y_pred_weights = _group_means(y_pred, num_classes, num_groups, y_pred_weights)
        num_classes = None
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


def _group_means(
    y_pred: torch.Tensor, num_classes: int | None, num_groups: int, y_pred_weights: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean probabilities of each group, ``[B, G, C, *S]``, and the groups' weights ``[B, G]``."""
    check_at_least(1, num_groups=num_groups)
    if num_classes is None:
        y_pred = check_probabilities("y_pred", y_pred, class_axis=2)
    else:
        (y_pred,) = check_label_maps(y_pred=y_pred)
    number = y_pred.shape[1]
    if number % num_groups:
        raise ValueError(f"y_pred must have a multiple of num_groups={num_groups} samples, got {number}.")
    weights = check_weights(y_pred_weights, y_pred, "y_pred_weights", "y_pred").unflatten(1, (num_groups, -1))
    of_groups = weights.sum(2)
    # a group of weight 0 counts for nothing, whatever its mean is
    inside = torch.where(of_groups[..., None] > 0, weights, 1 / weights.shape[2])
    inside = (inside / inside.sum(2, keepdim=True)).flatten(0, 1)
    groups = y_pred.unflatten(1, (num_groups, -1)).flatten(0, 1)
    if num_classes is None:
        means = torch.einsum("bn,bn...->b...", inside, groups)
    else:
        means = label_frequency("y_pred", groups, inside, num_classes, check_mask(None, groups, "y_pred"))
    return means.unflatten(0, (-1, num_groups)), of_groups
