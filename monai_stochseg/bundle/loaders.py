# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import torch.distributed as dist
from monai.data import DataLoader, Dataset, list_data_collate

from monai_stochseg.data import CaseSampler, SeededDraws
from monai_stochseg.data.dealt_batches import DealtBatches


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
    Cases in their order. Under torchrun the batches are dealt to the processes, each case once; a process for which
    none is left has one batch without a case, the empty list, which the evaluators of this package take.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return DataLoader(dataset, batch_size=batch_size, num_workers=num_workers)
    batches = DealtBatches(len(dataset), batch_size)
    return DataLoader(dataset, batch_sampler=batches, num_workers=num_workers, collate_fn=_collate)


def _collate(items: list[Any]) -> Any:
    return list_data_collate(items) if items else []
