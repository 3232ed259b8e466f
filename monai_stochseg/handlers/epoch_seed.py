# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from ignite.engine import Engine, Events
from monai.data.utils import set_rnd

from monai_stochseg.data import seed_all

__all__ = ["EpochSeed"]

_LOADING, _TRAINING = 0, 1


class EpochSeed:
    """
    Handler of a trainer that makes every iteration a function of seed, epoch, iteration and rank.

    At the start of each epoch it seeds the random transforms of the trainer's dataset, and takes a new iterator of the
    data loader. Before each batch is loaded and before each step it seeds PyTorch, NumPy and Python. So the order of
    the data, augmentation, dropout and noise do not depend on how many epochs or iterations this process has run: a
    resumed training repeats them. One that was stopped within an epoch loads the batches of the iterations that are
    done once more, so that those which are left are the same; ``epoch_length`` must then be at most the length of the
    loader.

    Workers of MONAI's ``DataLoader`` take their state from PyTorch's, so that the augmentation depends on their number,
    unless the data set seeds each case, as :py:class:`monai_stochseg.data.SeededDraws` does.

    Args:
        seed: any non-negative integer.

    Raises:
        ValueError: when ``seed`` is negative; at the start of training, when the data loader keeps its workers from
            epoch to epoch, and with them their random state.
    """

    def __init__(self, seed: int) -> None:
        if seed < 0:
            raise ValueError(f"seed must be a non-negative integer but is {seed}.")
        self.seed = seed

    def attach(self, engine: Engine) -> None:
        """
        Args:
            engine: a trainer of MONAI.
        """
        engine.add_event_handler(Events.STARTED, self._check)
        engine.add_event_handler(Events.EPOCH_STARTED, self)
        engine.add_event_handler(Events.GET_BATCH_STARTED, self._seed_loading)
        engine.add_event_handler(Events.ITERATION_STARTED, self._seed_training)

    def _check(self, engine: Engine) -> None:
        if getattr(engine.data_loader, "persistent_workers", False):
            raise ValueError("EpochSeed cannot seed workers that outlast an epoch: set persistent_workers=False.")

    def _seed_loading(self, engine: Engine) -> None:
        self._seed(engine, engine.state.iteration + 1, _LOADING)  # the iteration is counted when it starts

    def _seed_training(self, engine: Engine) -> None:
        self._seed(engine, engine.state.iteration, _TRAINING)

    def _seed(self, engine: Engine, iteration: int, purpose: int) -> None:
        seed_all(_seed_of(self.seed, iteration, engine.state.rank, purpose))

    def __call__(self, engine: Engine) -> None:
        """Seed the epoch ``engine.state.epoch``."""
        state = engine.state
        seed = _seed_of(self.seed, state.epoch, state.rank)
        seed_all(seed)
        loader = engine.data_loader
        set_rnd(getattr(loader, "dataset", loader), seed)
        for owner in (loader, getattr(loader, "sampler", None)):
            generator = getattr(owner, "generator", None)
            if generator is not None:
                generator.manual_seed(seed)
        done = state.iteration % state.epoch_length if state.epoch_length else 0
        if done == 0:
            # ignite goes on with the last epoch's iterator where epoch_length is not the loader's length
            engine.set_data(loader)
            return
        # Ignite must take the iterator of an epoch that was interrupted itself, because then it counts from the
        # iterations already done; but it starts with the epoch's first batch.
        first = state.iteration - done + 1
        state.dataloader = _Rest(loader, done, lambda i: self._seed(engine, first + i, _LOADING))


class _Rest:
    """A data loader without its first batches, which are loaded and dropped."""

    def __init__(self, loader: Iterable, done: int, before: Callable[[int], None]) -> None:
        self.loader = loader
        self.done = done
        self.before = before

    def __iter__(self) -> Iterator[Any]:
        iterator = iter(self.loader)
        for i in range(self.done):
            self.before(i)
            next(iterator)
        return iterator


def _seed_of(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])
