# SPDX-License-Identifier: Apache-2.0
"""Temperature scaling: a trained network's probabilities, calibrated by two vectors at most."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch.nn import functional as F

from monai_stochseg.distributions import check_labels, check_weights, full_precision
from monai_stochseg.distributions.arguments import check_arguments, check_at_least
from monai_stochseg.losses.raters import check_target

__all__ = ["Temperature", "fit_temperature"]

_ITERATIONS = 100


class Temperature(NamedTuple):
    """
    What calibrates logits, ``logits * scale + bias``.

    Args:
        scale: of each class, ``[C]``; 1 / T of a single temperature T.
        bias: of each class, ``[C]``; 0 of a single temperature.
    """

    scale: torch.Tensor
    bias: torch.Tensor

    def apply(self, logits: torch.Tensor, class_axis: int = 1) -> torch.Tensor:
        """The calibrated logits, of the shape of ``logits``."""
        shape = [-1 if axis == class_axis % logits.ndim else 1 for axis in range(logits.ndim)]
        logits = full_precision(logits)
        return logits * self.scale.to(logits).reshape(shape) + self.bias.to(logits).reshape(shape)


@check_arguments
def fit_temperature(
    logits: torch.Tensor,
    target: torch.Tensor,
    rater_weights: torch.Tensor | None = None,
    vector: bool = False,
    ignore_index: int | None = None,
    max_voxels: int = 1_000_000,
) -> Temperature:
    """
    Temperature scaling (Guo et al. 2017, https://arxiv.org/abs/1706.04599): the temperature, or the scale and bias of
    each class (vector scaling), with the least cross entropy on held-out images, by L-BFGS in float64.

    Args:
        logits: of a trained network on images that it was not trained on, ``[B, C, *S]``.
        target: integer labels of the raters, ``[B, R, *S]``.
        rater_weights: ``[B, R]``; a missing rater has weight 0.
        vector: True for vector scaling. The biases sum to 0.
        ignore_index: label of void voxels, which are left out.
        max_voxels: of more voxels, every k-th is taken.

    Returns:
        scale and bias, float64.

    Raises:
        ValueError: when shapes do not fit, a label is outside the classes, max_voxels is below 1, or all voxels are
            void.
        FloatingPointError: when logits, or what is fitted, are not finite.

    Example::

        >>> logits = torch.tensor([[[[3.0] * 4], [[0.0] * 4]]])  # 95 %, of three voxels of four
        >>> temperature = fit_temperature(logits, torch.tensor([[[[0, 0, 0, 1]]]]))
        >>> temperature.apply(logits).softmax(1)[0, 0, 0, 0]
        tensor(0.7500)
    """
    check_at_least(1, max_voxels=max_voxels)
    target = check_target(target, logits, "logits")
    weights = check_weights(rater_weights, target, maps_name="target")
    labels, valid = check_labels(target, logits.shape[1], ignore_index, weights=weights)
    flat = full_precision(logits).detach().double().flatten(2).movedim(1, -1)  # [B, V, C]
    if not torch.isfinite(flat).all():
        raise FloatingPointError("logits are not finite.")
    mass = weights.to(flat)[..., None] * valid.flatten(2)
    counts = torch.stack([(mass * (labels.flatten(2) == c)).sum(1) for c in range(flat.shape[-1])], dim=-1)
    flat, counts = flat.flatten(0, 1), counts.flatten(0, 1)
    known = counts.sum(1) > 0
    flat, counts = flat[known], counts[known]
    if not len(flat):
        raise ValueError("target: all voxels are void, there is nothing to fit.")
    step = -(-len(flat) // max_voxels)
    flat, counts = flat[::step], counts[::step]
    total = counts.sum()
    raw = torch.zeros(flat.shape[-1] if vector else 1, dtype=torch.float64, device=flat.device, requires_grad=True)
    bias = torch.zeros(flat.shape[-1], dtype=torch.float64, device=flat.device, requires_grad=vector)
    optimizer = torch.optim.LBFGS(
        [raw, *([bias] if vector else [])], max_iter=_ITERATIONS, line_search_fn="strong_wolfe", tolerance_change=1e-12
    )

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        value = -(counts * F.log_softmax(flat * raw.exp() + bias, dim=1)).sum() / total
        value.backward()
        return value

    with torch.enable_grad():
        optimizer.step(closure)
    scale = raw.detach().exp().expand(flat.shape[-1]).clone()
    bias = bias.detach() - bias.detach().mean()
    if not (torch.isfinite(scale).all() and torch.isfinite(bias).all()):
        raise FloatingPointError(f"the fitted scale {scale.tolist()} and bias {bias.tolist()} are not finite.")
    return Temperature(scale, bias)
