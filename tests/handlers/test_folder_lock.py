# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import multiprocessing
import os
import re
import signal
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from filelock import FileLock
from ignite.engine import Events
from tiny_training import make_trainer

from monai_stochseg.handlers import FolderLock

CONTEXT = multiprocessing.get_context("fork")  # another would import torch anew


class Hold:
    """Says that the training runs, and waits; a fork has the lock's file open, as a worker of a data loader has."""

    def __init__(self, pipe: Connection) -> None:
        self.pipe = pipe

    def attach(self, trainer: object) -> None:
        trainer.add_event_handler(Events.ITERATION_STARTED, self)

    def __call__(self) -> None:
        if os.fork() == 0:
            self.pipe.poll(None)  # until the test closes its end
            os._exit(0)
        self.pipe.send(os.getpid())
        signal.pause()


def train(folder: Path, *handlers: object, rank: int = 0) -> None:
    trainer = make_trainer([FolderLock(folder), *handlers], max_epochs=1)
    trainer.state.rank = rank
    trainer.run()


def test_a_second_training_is_refused_until_the_first_is_killed(tmp_path):
    folder = tmp_path / "output"
    ours, theirs = CONTEXT.Pipe()
    process = CONTEXT.Process(target=_hold, args=(folder, ours, theirs))
    process.start()
    theirs.close()
    try:
        assert ours.recv() == process.pid
        message = f"another training, process {process.pid} on .*, runs in {re.escape(str(folder))}: wait for its end"
        with pytest.raises(RuntimeError, match=message):
            train(folder)
        train(folder, rank=1)  # not the first process of its training
        process.kill()
        process.join()
        train(folder)  # although a worker of the killed one still runs
    finally:
        process.kill()
        ours.close()


def _hold(folder: Path, ours: Connection, theirs: Connection) -> None:
    ours.close()
    train(folder, Hold(theirs))


def test_a_run_gives_the_lock_back_at_its_end_and_after_an_error(tmp_path):
    class Fail:
        def attach(self, trainer: object) -> None:
            trainer.add_event_handler(Events.ITERATION_STARTED, self)

        def __call__(self) -> None:
            raise RuntimeError("out of memory")

    for _ in range(2):
        with pytest.raises(RuntimeError, match="out of memory"):
            train(tmp_path, Fail())
        train(tmp_path)
    with FileLock(tmp_path / ".training.lock", timeout=0):
        pass
    assert os.listdir(tmp_path) == [".training.lock"]
