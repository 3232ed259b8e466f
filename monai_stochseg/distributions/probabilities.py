# SPDX-License-Identifier: Apache-2.0
"""Class probabilities: the one check of them."""

from __future__ import annotations

import torch

from monai_stochseg.distributions.arguments import reads_values

__all__ = ["check_class_probabilities"]

# Rounding of half precision, summed over some classes.
_TOLERANCE = 1e-2


def check_class_probabilities(name: str, values: torch.Tensor, class_axis: int = 1, cure: str = "") -> None:
    """
    Check that values are probabilities of the classes.

    Args:
        name: of the argument, for the error.
        values: of any floating type.
        class_axis: the axis of the classes.
        cure: what to do, for the error.

    Raises:
        ValueError: when there are fewer than 2 classes or no values, or these are negative or do not sum to 1.
    """
    values = values.detach()
    if values.ndim <= class_axis or values.shape[class_axis] < 2 or not values.numel():
        raise ValueError(f"{name} must hold probabilities of at least 2 classes, got the shape {tuple(values.shape)}.")
    if not reads_values():
        return
    total = values.sum(class_axis, dtype=torch.promote_types(values.dtype, torch.float32))
    if not bool((values >= 0).all() & ((total - 1).abs() <= _TOLERANCE).all()):  # negated, so that NaN fails
        raise ValueError(
            f"{name} must hold probabilities that sum to 1 over C, got values from "
            f"{float(values.min()):g}, with sums from {float(total.min()):g} to {float(total.max()):g}: {cure}"
        )
