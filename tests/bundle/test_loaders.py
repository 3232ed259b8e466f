# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch.distributed as dist

from monai_stochseg.bundle.loaders import evaluation_loader, training_loader


def cases(loader) -> list[int]:
    return [case for batch in loader for case in batch.tolist()]


def as_process(monkeypatch, rank: int, world_size: int) -> None:
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda group=None: world_size)
    monkeypatch.setattr(dist, "get_rank", lambda group=None: rank)


def test_the_order_is_a_function_of_seed_and_epoch():
    def order(seed: int, epoch: int) -> list[int]:
        loader = training_loader(range(10), batch_size=4, seed=seed)
        loader.sampler.set_epoch(epoch)
        return cases(loader)

    assert sorted(order(0, 0)) == list(range(10))
    assert order(0, 1) == order(0, 1)
    assert order(0, 1) != order(0, 2)
    assert order(0, 1) != order(3, 1)
    assert [len(batch) for batch in training_loader(range(10), 4, images_per_epoch=6)] == [4, 2]


@pytest.mark.parametrize(("number", "dealt"), [(5, [[0, 2, 4], [1, 3]]), (2, [[0], [1]]), (1, [[0], [0]])])
def test_evaluation_deals_each_case_once_where_it_can(monkeypatch, number, dealt):
    assert cases(evaluation_loader(range(number), batch_size=2)) == list(range(number))
    for rank in range(2):
        as_process(monkeypatch, rank, 2)
        with pytest.warns(UserWarning, match="1 cases for 2 processes") if number == 1 else nullcontext():
            assert cases(evaluation_loader(range(number))) == dealt[rank]


def test_training_deals_an_epoch_to_the_processes(monkeypatch):
    dealt = []
    for rank in range(2):
        as_process(monkeypatch, rank, 2)
        dealt += cases(training_loader(range(6), batch_size=2))
    assert sorted(dealt) == list(range(6))
