# SPDX-License-Identifier: Apache-2.0
"""Several samples of each image in one batch."""

from __future__ import annotations

import torch

__all__ = ["repeat_items"]


def repeat_items(x: torch.Tensor, n: int) -> torch.Tensor:
    """
    ``[B, ...]`` to ``[B * n, ...]``, the ``n`` of an item one after the other.

    As ``repeat_interleave``, which ONNX does not have for an ``n`` that is no constant.
    """
    return x.unsqueeze(1).expand(-1, n, *x.shape[1:]).flatten(0, 1)
