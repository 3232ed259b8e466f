# SPDX-License-Identifier: Apache-2.0
"""Cases whose random transforms are a function of the draw, and not of the process that loads it."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from monai.data import Dataset
from monai.data.utils import set_rnd


class Draw(int):
    """
    The index of a case that is drawn, with a seed of this draw. It crosses to the processes that load.

    Args:
        index: of the case.
        seed: a non-negative integer.
    """

    seed: int

    def __new__(cls, index: int, seed: int) -> Draw:
        """Make a number with a seed."""
        draw = super().__new__(cls, index)
        draw.seed = seed
        return draw

    def __getnewargs__(self) -> tuple[int, int]:  # type: ignore[override]
        return int(self), self.seed


def seed_all(seed: int) -> None:
    """
    Seed the global generators of PyTorch, NumPy and Python.

    Args:
        seed: an integer of 32 bits.
    """
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 (third-party transforms draw from it)
    torch.manual_seed(seed)


class SeededDraws(Dataset):
    """
    A data set that seeds its random transforms, and the generators of PyTorch, NumPy and Python, before each case that
    is asked for by a :py:class:`Draw`, as :py:class:`CaseSampler` makes them. So it does not matter how many processes
    load, nor which of them loads a case.

    Args:
        data: a data set of MONAI. Its attribute ``transform`` is what is seeded.
    """

    def _transform(self, index: int) -> Any:
        seed = getattr(index, "seed", None)
        if seed is not None:
            set_rnd(getattr(self.data, "transform", self.data), seed)
            seed_all(seed)
        return self.data[index]
