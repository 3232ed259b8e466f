# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import torch
from torch import nn

__all__ = ["check_trace"]


@torch.no_grad()
def check_trace(traced: nn.Module, module: nn.Module, *example: torch.Tensor) -> None:
    """
    Refuse a trace that gives other answers than its module.

    A trace holds the path of its example: both are compared on inputs of the same shapes with values of both signs,
    where another path may be taken.

    Args:
        traced: of the module.
        module: gives one answer, or several, of which the first is compared.
        example: the inputs of the trace; the first is the image.

    Raises:
        ValueError: when the answers differ: Python looked at values.
    """
    generator = torch.Generator().manual_seed(0)
    image, *noise = (torch.randn(each.shape, generator=generator).to(each) for each in example)
    for other in (image, -image):
        found, expected = (
            each[0] if isinstance(each, tuple) else each for each in (traced(other, *noise), module(other, *noise))
        )
        if found.shape != expected.shape or not torch.allclose(found, expected, rtol=0, atol=1e-3, equal_nan=True):
            raise ValueError(
                "its answer to other voxels than the example's is another one than the network's, which decides by "
                "their values in Python, or leaves torch: take torch.where."
            )
