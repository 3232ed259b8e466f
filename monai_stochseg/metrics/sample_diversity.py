# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import torch
from monai.utils import MetricReduction

from monai_stochseg.distributions.arguments import check_arguments

from .distance_metric import DistanceMetric
from .label_maps import check_label_maps
from .map_sets import check_self_pairs, counted_maps, mean_distance
from .pairwise_distance import LabelMapDistance, as_distance

__all__ = ["SampleDiversityMetric", "compute_sample_diversity"]


class SampleDiversityMetric(DistanceMetric):
    """
    Mean distance between two label maps of one set, averaged over items: how much samples, or raters, differ.

    Called with one set, ``metric(samples)``: ``[B, N, *S]`` or a list of B items ``[N, *S]``, in which N may differ;
    weights by keyword, ``y_pred_weights``, or carried by the maps. What is computed:
    :py:func:`compute_sample_diversity`.

    In an engine, whose handler always passes a pair, the key stands twice:
    ``IgniteMetricHandler(metric_fn=SampleDiversityMetric(4), output_transform=from_engine(["samples", "samples"]))``.
    A second set raises an error, since one set has no diversity against another.

    Args:
        distance: see :py:class:`~.distance_metric.DistanceMetric`, as the last two.
        self_pairs: whether the pairs of a map with itself count.
        reduction: how to reduce the items.
        get_not_nans: whether ``aggregate`` returns the number of defined items too.

    Raises:
        ValueError: when an option is unknown.

    Example::

        >>> metric = SampleDiversityMetric(2, self_pairs=False)
        >>> metric(torch.tensor([[[0, 1, 1, 0], [0, 0, 1, 1]]]))
        tensor([[0.6667]])
    """

    weighted = ("y_pred",)
    one_set = True

    @check_arguments
    def __init__(
        self,
        distance: LabelMapDistance | int,
        self_pairs: bool = True,
        reduction: MetricReduction | str = MetricReduction.MEAN,
        get_not_nans: bool = False,
    ) -> None:
        super().__init__(distance, reduction, get_not_nans)
        self.self_pairs = self_pairs

    def _compute_tensor(
        self, y_pred: torch.Tensor, y: None = None, y_pred_weights: torch.Tensor | None = None
    ) -> torch.Tensor:
        """One value per item, ``[B, 1]``."""
        return compute_sample_diversity(
            y_pred, self.distance, self_pairs=self.self_pairs, y_pred_weights=y_pred_weights
        ).unsqueeze(1)


@check_arguments
def compute_sample_diversity(
    y_pred: torch.Tensor,
    distance: LabelMapDistance | int,
    *,
    self_pairs: bool = True,
    y_pred_weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """
    Compute the diversity ``E[d(s, s')]`` of a set of label maps, per item of the batch.

    The second term of the generalized energy distance, reported beside it by Monteiro et al., Stochastic Segmentation
    Networks, NeurIPS 2020, and Kassapis et al., Calibrated Adversarial Refinement for Stochastic Semantic Segmentation,
    ICCV 2021. Given the raters' maps it is their disagreement, the third term.

    Args:
        y_pred: label maps ``[B, N, *S]`` of integers in any type, floating types included.
        distance: between two label maps, or the number of classes, see
            :py:class:`~.pairwise_distance.LabelMapDistance`. The papers use the default.
        self_pairs: True takes s = s' into the mean, as in the papers' energy distance; False leaves it out (unbiased).
        y_pred_weights: ``[B, N]``, non-negative, see :py:func:`monai_stochseg.distributions.check_weights`; None:
            uniform. A map of weight 0 may hold anything.

    Returns:
        ``[B]``, in [0, 1], in PyTorch's default dtype, on the device of ``y_pred``. NaN where a pair of maps has no
        distance (``empty="ignore"``), all voxels are void, or ``self_pairs=False`` and only one map has a weight.

    Raises:
        TypeError: when ``y_pred`` is no tensor.
        ValueError: when shapes do not match, a label is outside the classes, weights are wrong, or
            ``self_pairs=False`` and there are fewer than two maps.

    Example::

        >>> compute_sample_diversity(torch.tensor([[[0, 1, 1, 0], [0, 0, 1, 1]]]), 2)
        tensor([0.3333])
    """
    return diversity("y_pred", y_pred, distance, self_pairs, y_pred_weights)


def diversity(
    name: str,
    maps: torch.Tensor,
    distance: LabelMapDistance | int,
    self_pairs: bool,
    weights: torch.Tensor | None,
) -> torch.Tensor:
    """As :py:func:`compute_sample_diversity`; ``name`` is that of the maps' argument, for the errors."""
    distance = as_distance(distance)
    (maps,) = check_label_maps(**{name: maps})
    check_self_pairs(self_pairs, **{name: maps})
    sets = counted_maps(name, maps, weights)
    return torch.stack([mean_distance(distance({name: item}), p, p, self_pairs) for item, p in sets])
