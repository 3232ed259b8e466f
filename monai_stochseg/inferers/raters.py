# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import torch
from monai.inferers import Inferer
from torch import nn
from torch.nn import functional as F

from monai_stochseg.distributions import HypothesesDistribution
from monai_stochseg.distributions.base import IMPOSSIBLE_LOGIT


class RaterInferer(Inferer):
    """
    The raters themselves, drawn with replacement: no network, and the floor of what a network can reach.

    For MONAI's evaluators with ``prepare_batch=PrepareBatchExtraInput("label")``.

    Args:
        num_classes: number of classes, the background included.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes

    def __call__(self, inputs: torch.Tensor, network: nn.Module, label: torch.Tensor) -> HypothesesDistribution:
        """
        Args:
            inputs: image ``[B, C_in, *S]``, not looked at.
            network: not called.
            label: integer labels of the raters, ``[B, R, *S]``.

        Raises:
            ValueError: when a label is none of the classes.
        """
        label = label.to(inputs.device).as_subclass(torch.Tensor).long()
        if label.numel() and not (label.min() >= 0 and label.max() < self.num_classes):
            found = f"{label.min().item()} to {label.max().item()}"
            raise ValueError(f"label must be of 0 to {self.num_classes - 1}, got {found}; a void label has no class.")
        others = 1 - F.one_hot(label, self.num_classes)
        return HypothesesDistribution(others.movedim(-1, 2) * IMPOSSIBLE_LOGIT)
