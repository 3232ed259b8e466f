# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from ignite.engine import Events
from monai.data import DataLoader
from tiny_training import make_dataset, make_network, make_trainer

from monai_stochseg.handlers import EpochSeed


def _record(seed=0, epochs=3, start=0, rank=0, draws_before=0, **kwargs):
    """What the epochs ``start + 1`` to ``epochs`` saw: images, and a draw from each of the three global states."""
    trainer = make_trainer([EpochSeed(seed)], max_epochs=epochs, **kwargs)
    trainer.state.rank = rank
    seen: dict[int, list] = {}

    @trainer.on(Events.STARTED)
    def go_on():
        torch.rand(draws_before)
        trainer.state.epoch, trainer.state.iteration = start, start * trainer.state.epoch_length

    @trainer.on(Events.ITERATION_STARTED)
    def keep():
        image = torch.as_tensor(trainer.state.batch["image"]).tolist()
        draws = (torch.rand(1).item(), random.random(), np.random.rand())  # noqa: NPY002
        seen.setdefault(trainer.state.epoch, []).append((image, draws))

    trainer.run()
    return seen


@pytest.mark.parametrize(("num_workers", "epoch_length"), [(0, 3), (0, 2), (0, 4), (2, 3)])
def test_an_epoch_does_not_depend_on_those_before(num_workers, epoch_length):
    kwargs = {"num_workers": num_workers, "epoch_length": epoch_length}
    whole = _record(**kwargs)
    rest = _record(start=1, draws_before=5, **kwargs)
    assert list(rest) == [2, 3]
    assert all(len(epoch) == epoch_length for epoch in whole.values())
    assert [rest[2], rest[3]] == [whole[2], whole[3]]
    assert whole[1] != whole[2]


def test_seed_and_rank_make_other_epochs():
    base = _record(epochs=1)
    assert base == _record(epochs=1)
    assert base != _record(seed=1, epochs=1)
    assert base != _record(rank=1, epochs=1)


def test_a_generator_of_the_loader_is_seeded():
    orders = []
    for draws in (0, 3):
        generator = torch.Generator().manual_seed(draws)
        trainer = make_trainer([EpochSeed(0)], max_epochs=1)
        trainer.data_loader = DataLoader(make_dataset(), batch_size=6, shuffle=True, generator=generator)
        trainer.state.epoch_length = 1
        trainer.run()
        orders.append(trainer.state.batch[0]["image"].tolist())
    assert orders[0] == orders[1]


def test_errors():
    with pytest.raises(ValueError, match="seed must be a non-negative integer but is -1"):
        EpochSeed(-1)
    trainer = make_trainer([EpochSeed(0)], network=make_network())
    trainer.data_loader = DataLoader(make_dataset(), num_workers=1, persistent_workers=True)
    with pytest.raises(ValueError, match="set persistent_workers=False"):
        trainer.run()
