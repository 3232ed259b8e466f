# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import random

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.data.utils import set_rnd

__all__ = ["EpochSeed"]


class EpochSeed:
    """
    Handler of a trainer that makes every epoch a function of seed, epoch and rank.

    At the start of each epoch it seeds PyTorch, NumPy and Python and the random transforms of the trainer's dataset,
    and takes a new iterator of the data loader. So the order of the data, augmentation, dropout and noise of epoch
    ``n`` do not depend on how many epochs this process has run: a resumed training repeats them. Workers of MONAI's
    ``DataLoader`` take their state from PyTorch's.

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

    def _check(self, engine: Engine) -> None:
        if getattr(engine.data_loader, "persistent_workers", False):
            raise ValueError("EpochSeed cannot seed workers that outlast an epoch: set persistent_workers=False.")

    def __call__(self, engine: Engine) -> None:
        """Seed the epoch ``engine.state.epoch``."""
        state = engine.state
        seed = int(np.random.SeedSequence([self.seed, state.epoch, state.rank]).generate_state(1)[0])
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002 (third-party transforms draw from it)
        torch.manual_seed(seed)
        loader = engine.data_loader
        set_rnd(getattr(loader, "dataset", loader), seed)
        for owner in (loader, getattr(loader, "sampler", None)):
            generator = getattr(owner, "generator", None)
            if generator is not None:
                generator.manual_seed(seed)
        # Ignite goes on with the last epoch's iterator where epoch_length is not the loader's length. In an epoch that
        # was interrupted it must take the iterator itself, because then it counts from the iterations already done.
        if not (state.epoch_length and state.iteration % state.epoch_length):
            engine.set_data(loader)
