# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import torch
from monai.inferers import Inferer
from torch import nn
from torch.nn import functional as F

from monai_stochseg.distributions import HypothesesDistribution, check_labels, check_weights
from monai_stochseg.distributions.arguments import check_arguments, check_num_classes
from monai_stochseg.distributions.base import IMPOSSIBLE_LOGIT


class RaterInferer(Inferer):
    """
    Draws the raters themselves, with replacement, and calls no network: the best that a network can reach.

    For MONAI's evaluators with ``prepare_batch=PrepareBatchExtraInput("label")``.

    Args:
        num_classes: number of classes, the background included.
        ignore_index: label of void voxels, which become background; None: there are none.

    Raises:
        ValueError: for fewer than 2 classes.
    """

    @check_arguments
    def __init__(self, num_classes: int, ignore_index: int | None = None) -> None:
        super().__init__()
        check_num_classes(num_classes=num_classes)
        self.num_classes = num_classes
        self.ignore_index = ignore_index

    @check_arguments
    def __call__(
        self,
        inputs: torch.Tensor,
        network: nn.Module,
        label: torch.Tensor,
        rater_weights: torch.Tensor | None = None,
    ) -> HypothesesDistribution:
        """
        Args:
            inputs: image ``[B, C_in, *S]``; only its device is used.
            network: not called.
            label: integer labels of the raters, ``[B, R, *S]``.
            rater_weights: ``[B, R]``, non-negative, each row with a positive sum; a rater is drawn in proportion to it.

        Raises:
            ValueError: when a label is outside the classes, or the weights do not fit.
        """
        label = label.to(inputs.device)
        if label.ndim not in (4, 5) or not label.numel():
            raise ValueError(f"label must be [B, R, *S] with 2 or 3 spatial axes, got {tuple(label.shape)}.")
        weights = check_weights(rater_weights, label, maps_name="label")
        labels, _ = check_labels(label, self.num_classes, self.ignore_index, "label", weights)
        others = 1 - F.one_hot(labels, self.num_classes)
        return HypothesesDistribution(others.movedim(-1, 2) * IMPOSSIBLE_LOGIT, weights)
