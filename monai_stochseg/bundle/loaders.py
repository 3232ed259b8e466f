# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import warnings

import torch.distributed as dist
from monai.data import DataLoader, Dataset, DistributedSampler

from monai_stochseg.data import CaseSampler, SeededDraws


def training_loader(
    dataset: Dataset, batch_size: int, images_per_epoch: int | None = None, num_workers: int = 0, seed: int = 0
) -> DataLoader:
    """
    Cases in an order that is a function of seed and epoch, dealt to the processes under torchrun; so are their random
    transforms, whatever ``num_workers`` is.
    """
    sampler = CaseSampler(dataset, images_per_epoch, seed)
    return DataLoader(SeededDraws(dataset), batch_size=batch_size, sampler=sampler, num_workers=num_workers)


def evaluation_loader(dataset: Dataset, batch_size: int = 1, num_workers: int = 0) -> DataLoader:
    """
    Cases in their order, dealt to the processes under torchrun. Where there are fewer cases than processes, some are
    repeated, and counted twice by metrics that pool voxels: a warning says so.
    """
    sampler = None
    if dist.is_available() and dist.is_initialized():
        even = len(dataset) < dist.get_world_size()
        if even:
            warnings.warn(
                f"{len(dataset)} cases for {dist.get_world_size()} processes: some are evaluated twice, and count "
                "so in means over voxels; start fewer processes for exact figures.",
                stacklevel=2,
            )
        sampler = DistributedSampler(dataset, even_divisible=even, shuffle=False)
    return DataLoader(dataset, batch_size=batch_size, sampler=sampler, num_workers=num_workers)
