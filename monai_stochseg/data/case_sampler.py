# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
from collections.abc import Iterator, Sized

import numpy as np
import torch
import torch.distributed as dist
from torch.utils.data import DistributedSampler

from .seeded_draws import Draw


class CaseSampler(DistributedSampler):
    """
    Draw a given number of cases per epoch, in one process or shared between several.

    An epoch is a row of random permutations of the cases, cut to ``num_samples``: all cases are drawn equally often,
    up to a difference of one. The order is a function of seed and epoch, which MONAI's trainers set, and so is the seed
    of each :py:class:`Draw`, whatever the number of processes.

    Args:
        dataset: the cases.
        num_samples: number of draws per epoch over all processes, rounded up to a multiple of their number; default:
            each case once.
        seed: the same in all processes.

    Raises:
        ValueError: when ``dataset`` is empty or ``num_samples`` is below 1.
    """

    def __init__(self, dataset: Sized, num_samples: int | None = None, seed: int = 0) -> None:
        total = len(dataset) if num_samples is None else num_samples
        if len(dataset) < 1 or total < 1:
            raise ValueError(f"there must be a case and num_samples at least 1, got {len(dataset)} and {num_samples}.")
        parallel = dist.is_available() and dist.is_initialized()
        replicas, rank = (dist.get_world_size(), dist.get_rank()) if parallel else (1, 0)
        super().__init__(dataset, num_replicas=replicas, rank=rank, shuffle=True, seed=seed)  # type: ignore[arg-type]
        self.num_cases = len(dataset)
        self.num_samples = math.ceil(total / replicas)
        self.total_size = self.num_samples * replicas

    def __iter__(self) -> Iterator[int]:
        """The cases of this process in the epoch given to ``set_epoch``, each a :py:class:`Draw`."""
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        rounds = math.ceil(self.total_size / self.num_cases)
        order = torch.cat([torch.randperm(self.num_cases, generator=generator) for _ in range(rounds)])
        seeds = np.random.SeedSequence([self.seed, self.epoch]).generate_state(self.total_size)
        mine = slice(self.rank, self.total_size, self.num_replicas)
        return (Draw(i, seed) for i, seed in zip(order[mine].tolist(), seeds[mine].tolist(), strict=True))
