# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import torch

from monai_stochseg.distributions.arguments import check_arguments

from .distance_metric import DistanceMetric
from .map_sets import counted_pairs
from .pairwise_distance import LabelMapDistance, as_distance

__all__ = ["MaximumDiceMatchMetric", "compute_maximum_dice_match"]


class MaximumDiceMatchMetric(DistanceMetric):
    """
    Mean over the raters of the best sample's Dice, D_max.

    What is computed: :py:func:`compute_maximum_dice_match`. Arguments and call are those of
    :py:class:`~.distance_metric.DistanceMetric`; the overlap is Dice, whatever that of the distance.

    Example::

        >>> metric = MaximumDiceMatchMetric(2)
        >>> metric(torch.tensor([[[0, 1, 1, 0]]]), torch.tensor([[[0, 1, 1, 0], [0, 0, 1, 1]]]))
        tensor([[0.7500]])
    """

    overlap = "dice"

    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor, **weights: torch.Tensor | None) -> torch.Tensor:
        """One value per item, ``[B, 1]``."""
        return compute_maximum_dice_match(y_pred, y, self.distance, **weights).unsqueeze(1)


@check_arguments
def compute_maximum_dice_match(
    y_pred: torch.Tensor,
    y: torch.Tensor,
    distance: LabelMapDistance | int,
    *,
    y_pred_weights: torch.Tensor | None = None,
    y_weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """
    Compute D_max, the mean over the raters of the Dice of the sample that comes closest, per item of the batch.

    D_max of Rahman et al., Ambiguous Medical Image Segmentation using Diffusion Models, CVPR 2023. It asks whether each
    rater's map is among the samples, not how often, and so never falls with more samples.

    Args:
        y_pred: sampled label maps ``[B, N, *S]``, as in
            :py:func:`~.energy_distance.compute_generalized_energy_distance`.
        y: the raters' label maps ``[B, R, *S]``.
        distance: see :py:class:`MaximumDiceMatchMetric`; the paper uses the default, in which two empty maps have a
            Dice of 1.
        y_pred_weights: ``[B, N]``; a sample counts in full whatever its weight, unless this is 0.
        y_weights: ``[B, R]``; 0 for a missing rater.

    Returns:
        ``[B]``, in [0, 1], in PyTorch's default dtype, on the device of ``y_pred``. NaN where a pair of maps has no
        Dice (``empty="ignore"``) or all voxels are void.

    Raises:
        TypeError: when ``y_pred`` or ``y`` is no tensor.
        ValueError: when shapes do not match, a label is outside the classes, ``y`` is one-hot, or weights are
            wrong.

    Example::

        >>> y = torch.tensor([[[0, 1, 1, 0], [0, 0, 1, 1]]])
        >>> compute_maximum_dice_match(torch.tensor([[[0, 1, 1, 0]]]), y, 2, y_weights=torch.tensor([[3, 1]]))
        tensor([0.8750])
    """
    distance = as_distance(distance, "dice")
    values = []
    for samples, _, raters, q in counted_pairs(y_pred, y, y_pred_weights, y_weights, distance):
        d = distance({"y_pred": samples, "y": raters})[: len(samples), len(samples) :]
        values.append(1 - (q * d.amin(0)).sum())  # amin keeps NaN
    return torch.stack(values)
