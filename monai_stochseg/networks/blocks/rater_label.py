# SPDX-License-Identifier: Apache-2.0
"""What the networks with a posterior do alike: they take one rater's label, as one-hot channels around 0."""

from __future__ import annotations

import torch

from monai_stochseg.distributions import check_weights, draw_map
from monai_stochseg.distributions.base import plain

__all__ = ["check_label", "check_one_label", "draw_label", "label_channels"]


def check_label(x: torch.Tensor, y: torch.Tensor | None) -> torch.Tensor:
    """The labels ``[B, raters, *S]`` of an image as a plain tensor; ValueError without them, or for another shape."""
    if y is None:
        raise ValueError("the posterior needs the label: call network(image, label), or network.predictive(image).")
    if y.dim() != x.dim() or not y.numel() or y.shape[0] != x.shape[0] or y.shape[2:] != x.shape[2:]:
        raise ValueError(f"y must be [B, raters, *S] for an image x of {tuple(x.shape)}, got {tuple(y.shape)}.")
    return plain(y)


def check_one_label(x: torch.Tensor, y: torch.Tensor | None) -> torch.Tensor:
    """As :py:func:`check_label`, of one rater, ``[B, 1, *S]``."""
    y = check_label(x, y)
    if y.shape[1] != 1:
        raise ValueError(f"y must be the label of one rater, [B, 1, *S], got {tuple(y.shape)}.")
    return y


def draw_label(
    x: torch.Tensor,
    y: torch.Tensor | None,
    rater_weights: torch.Tensor | None = None,
    generator: torch.Generator | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    The label ``[B, 1, *S]`` of one rater of each item, drawn by weight, and the rater ``[B]``.

    Raises:
        ValueError: without a label, or when shapes do not fit.
    """
    y = check_label(x, y)
    weights = check_weights(rater_weights, y, maps_name="y")
    alone = torch.zeros(len(y), dtype=torch.long, device=y.device)  # takes nothing from the generator
    rater = alone if y.shape[1] == 1 else draw_map(weights, generator)
    return y[torch.arange(len(y), device=y.device), rater].unsqueeze(1), rater


def label_channels(y: torch.Tensor, out_channels: int, like: torch.Tensor) -> torch.Tensor:
    """One-hot channels ``[B, C, *S]`` of a label ``[B, 1, *S]``; a void voxel has no class."""
    classes = torch.arange(out_channels, device=y.device).reshape(1, -1, *[1] * (y.dim() - 2))
    return (y == classes).to(like)
