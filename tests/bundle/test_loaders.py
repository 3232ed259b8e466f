# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch.distributed as dist

from monai_stochseg.bundle.loaders import evaluation_loader, training_loader


def cases(loader) -> list[int]:
    return [case for batch in loader for case in (batch.tolist() if len(batch) else [])]


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


@pytest.mark.parametrize(
    ("number", "batch_size", "dealt"),
    [
        (5, 1, [[0, 2, 4], [1, 3]]),
        (2, 1, [[0], [1]]),
        (1, 1, [[0], []]),
        (5, 2, [[0, 1, 4], [2, 3]]),
        (3, 4, [[0, 1, 2], []]),
    ],
)
def test_evaluation_deals_each_case_once(monkeypatch, number, batch_size, dealt):
    assert cases(evaluation_loader(range(number), batch_size)) == list(range(number))
    for rank in range(2):
        as_process(monkeypatch, rank, 2)
        assert cases(evaluation_loader(range(number), batch_size)) == dealt[rank]


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_process_without_a_case_has_one_batch_that_is_empty(monkeypatch, num_workers):
    as_process(monkeypatch, 1, 2)
    assert list(evaluation_loader(range(1), num_workers=num_workers)) == [[]]
    assert len(evaluation_loader(range(0))) == 0


def test_training_deals_an_epoch_to_the_processes(monkeypatch):
    dealt = []
    for rank in range(2):
        as_process(monkeypatch, rank, 2)
        dealt += cases(training_loader(range(6), batch_size=2))
    assert sorted(dealt) == list(range(6))
