# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pickle
import random

import numpy as np
import pytest
import torch
from monai.data import CacheDataset, DataLoader
from monai.transforms import Compose, RandGaussianNoised

from monai_stochseg.data import CaseSampler, Draw, SeededDraws


def _from_global_generators(case: dict) -> dict:
    noise = torch.rand(1).item() + random.random() + np.random.rand()  # noqa: NPY002
    return {**case, "noise": noise}


def _dataset() -> SeededDraws:
    cases = [{"image": torch.full((1, 4), float(i))} for i in range(4)]
    transform = Compose([RandGaussianNoised("image", prob=1.0), _from_global_generators])
    return SeededDraws(CacheDataset(cases, transform, progress=False))


def _epoch(dataset: SeededDraws, num_workers: int, epoch: int = 1, seed: int = 0) -> list:
    sampler = CaseSampler(dataset, num_samples=7, seed=seed)
    sampler.set_epoch(epoch)
    loader = DataLoader(dataset, batch_size=2, sampler=sampler, num_workers=num_workers)
    return [(torch.as_tensor(batch["image"]).tolist(), batch["noise"].tolist()) for batch in loader]


def test_the_number_of_workers_changes_nothing():
    first = _epoch(_dataset(), 0)
    assert _epoch(_dataset(), 2) == first
    assert _epoch(_dataset(), 0, epoch=2) != first
    assert _epoch(_dataset(), 0, seed=1) != first


def test_a_case_that_is_drawn_twice_differs():
    sampler = CaseSampler(range(2), num_samples=40)
    assert len({draw.seed for draw in sampler}) == 40


def test_the_number_of_processes_changes_no_case(monkeypatch):
    whole = [(int(draw), draw.seed) for draw in CaseSampler(range(6))]
    dealt = []
    for rank in range(2):
        monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
        monkeypatch.setattr("torch.distributed.get_world_size", lambda: 2)
        monkeypatch.setattr("torch.distributed.get_rank", lambda rank=rank: rank)
        dealt += [(int(draw), draw.seed) for draw in CaseSampler(range(6))]
    assert sorted(dealt) == sorted(whole)


def test_a_plain_index_draws_as_it_is():
    dataset = _dataset()
    assert torch.as_tensor(dataset[1]["image"]).tolist() != torch.as_tensor(dataset[1]["image"]).tolist()


@pytest.mark.parametrize("protocol", [2, pickle.HIGHEST_PROTOCOL])
def test_a_draw_crosses_to_a_process(protocol):
    draw = pickle.loads(pickle.dumps(Draw(3, 11), protocol))
    assert (draw, draw.seed) == (3, 11)
