# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import torch

from monai_stochseg.distributions import full_precision
from monai_stochseg.losses.class_sums import voxel_chunks

__all__ = ["expert_groups"]


@torch.no_grad()
def expert_groups(logits: torch.Tensor, num_experts: int, threshold: float) -> torch.Tensor:
    """
    Group the experts of every item whose mean samples, the mean softmax of their samples, overlap.

    The overlap of a class is ``(I + 1) / (U + 1)`` with ``I = sum p q`` and ``U = sum p^2 + sum q^2 - I``: for
    confident samples the intersection over union, and 1 for equal ones. It is averaged over the classes without class
    0. Two experts that both overlap with a third one are in one group.

    Args:
        logits: samples of K experts, those of the first one first, ``[B, N, C, *S]``.
        num_experts: K.
        threshold: the least overlap of two experts in one group.

    Returns:
        ``[B, K]``: the first expert of the group of each.
    """
    logits = logits.flatten(3)
    batch, num_samples, num_classes = logits.shape[:3]
    dots = logits.new_zeros(((num_classes - 1) * batch, num_experts, num_experts), dtype=torch.float32)
    with torch.autocast(logits.device.type, enabled=False):
        for part in voxel_chunks(logits.shape):
            p = full_precision(logits[..., part].permute(2, 0, 1, 3)).softmax(0)[1:]
            mean = p.unflatten(2, (num_experts, num_samples // num_experts)).mean(3).flatten(0, 1).float()
            dots.baddbmm_(mean, mean.mT)
    squares = dots.diagonal(dim1=1, dim2=2)
    union = squares[:, :, None] + squares[:, None, :] - dots
    overlap = ((dots + 1) / (union + 1)).unflatten(0, (num_classes - 1, batch)).mean(0)
    linked = (overlap >= threshold) | torch.eye(num_experts, dtype=torch.bool, device=logits.device)
    # links of links, twice as far with every product
    for _ in range((num_experts - 1).bit_length()):
        linked = (linked.float() @ linked.float()) > 0
    return linked.int().argmax(2)
