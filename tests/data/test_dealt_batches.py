# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch.distributed as dist

from monai_stochseg.data.dealt_batches import DealtBatches, batch_number, gather, in_order


def as_process(monkeypatch, rank: int, processes: int) -> None:
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda group=None: processes)
    monkeypatch.setattr(dist, "get_rank", lambda group=None: rank)


@pytest.mark.parametrize("processes", [1, 2, 3, 8])
@pytest.mark.parametrize(("number", "batch_size"), [(1, 1), (5, 1), (5, 2), (3, 4)])
def test_the_batches_are_those_of_one_process(monkeypatch, processes, number, batch_size):
    whole = list(DealtBatches(number, batch_size))
    shares, numbers = [], []
    for rank in range(processes):
        as_process(monkeypatch, rank, processes)
        batches = DealtBatches(number, batch_size)
        assert len(batches) >= 1
        shares.append(list(batches))
        numbers += [(batch_number(i), batch) for i, batch in enumerate(batches, 1) if batch]
    assert in_order(shares) == list(range(number))
    assert sorted(numbers) == list(enumerate(whole, 1))


def test_no_cases_are_no_batches(monkeypatch):
    as_process(monkeypatch, 1, 2)
    assert list(DealtBatches(0)) == []


def test_refuses_a_batch_of_none():
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        DealtBatches(3, 0)


def test_without_a_group_there_is_one():
    assert gather("own") == ["own"]
