# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import Any, TypeVar

import torch.distributed as dist
from torch.utils.data import Sampler

__all__ = ["DealtBatches", "batch_number", "gather", "in_order"]

T = TypeVar("T")


class DealtBatches(Sampler[list[int]]):
    """
    Batches of the cases in their order, dealt in turn to the processes: each case once, and in the batch that it is in
    where there is one process.

    A process for which no batch is left has one without a case, ``[]``, so that it takes part in what the processes do
    together at the end of an epoch.

    Args:
        number: of the cases.
        batch_size: cases a batch; the last batch may have fewer.

    Raises:
        ValueError: when ``batch_size`` is below 1.
    """

    def __init__(self, number: int, batch_size: int = 1) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}.")
        rank, processes = _place()
        starts = range(0, number, batch_size)[rank::processes]
        self.batches: list[list[int]] = [list(range(i, min(i + batch_size, number))) for i in starts]
        if number and not self.batches:
            self.batches = [[]]

    def __iter__(self) -> Iterator[list[int]]:
        """The indices of each batch of this process."""
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


def batch_number(iteration: int) -> int:
    """
    The number that a batch of this process has among those of all processes, from 1, where they are dealt in turn.

    Args:
        iteration: number of the batch in this process, from 1.
    """
    rank, processes = _place()
    return (iteration - 1) * processes + rank + 1


def gather(value: T) -> list[T]:
    """
    The values of all processes, by their ranks. All must call it; without a process group there is one.

    Args:
        value: anything that can be pickled.
    """
    if _place()[1] == 1:
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def in_order(batches: Sequence[Sequence[Sequence[T]]]) -> list[T]:
    """
    The items of all processes in the order of the cases.

    Args:
        batches: of each process, the items of each of its batches.
    """
    rounds = zip_longest(*batches, fillvalue=())
    return [item for dealt in rounds for batch in dealt for item in batch]


def _place() -> tuple[int, int]:
    """Rank and number of the processes."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1
