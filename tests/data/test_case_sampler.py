# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections import Counter

import pytest
import torch.distributed as dist

from monai_stochseg.data import CaseSampler


def epoch(sampler: CaseSampler, number: int) -> list[int]:
    sampler.set_epoch(number)
    return list(sampler)


@pytest.mark.parametrize(("num_samples", "expected"), [(None, 5), (5, 5), (3, 3), (12, 12)])
def test_draws_equally_often(num_samples, expected):
    sampler = CaseSampler(range(5), num_samples)
    drawn = epoch(sampler, 1)
    assert len(drawn) == len(sampler) == expected
    counts = Counter(drawn)
    assert max(counts.values()) - min(counts[i] for i in range(5)) <= 1


def test_the_order_is_a_function_of_seed_and_epoch():
    assert epoch(CaseSampler(range(20), seed=1), 3) == epoch(CaseSampler(range(20), seed=1), 3)
    assert epoch(CaseSampler(range(20), seed=1), 3) != epoch(CaseSampler(range(20), seed=1), 4)
    assert epoch(CaseSampler(range(20), seed=1), 3) != epoch(CaseSampler(range(20), seed=2), 3)


@pytest.mark.parametrize("num_samples", [None, 7, 20])
def test_processes_share_the_epoch(monkeypatch, num_samples):
    whole = epoch(CaseSampler(range(10), num_samples), 2)
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    parts = []
    for rank in (0, 1):
        monkeypatch.setattr(dist, "get_rank", lambda rank=rank: rank)
        parts.append(epoch(CaseSampler(range(10), num_samples), 2))
    assert len(parts[0]) == len(parts[1])
    dealt = [case for pair in zip(*parts, strict=True) for case in pair]
    assert dealt[: len(whole)] == whole
    assert len(dealt) - len(whole) <= 1


@pytest.mark.parametrize(("cases", "num_samples"), [(0, None), (3, 0)])
def test_rejects(cases, num_samples):
    with pytest.raises(ValueError, match="num_samples at least 1"):
        CaseSampler(range(cases), num_samples)
