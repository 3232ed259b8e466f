# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import NamedTuple

import torch


class ExpertSamples(NamedTuple):
    """
    Weighted samples of a mixture of K experts, S of each: what the network gives its loss.

    Args:
        logits: ``[B, N, C, *S]`` with N = K * S, all samples of the first expert first.
        weights: ``[B, N]``, each row summing to 1.
        num_experts: K.
    """

    logits: torch.Tensor
    weights: torch.Tensor
    num_experts: int
