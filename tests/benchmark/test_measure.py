# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
import multiprocessing
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events

from monai_stochseg.benchmark.measure import PeakMemory, StepTimer, seconds_per_sample
from monai_stochseg.networks.nets import IndependentSampler

MIB = 2**20


def test_a_step_without_loading_and_validation() -> None:
    def loading():
        for _ in range(3):
            time.sleep(0.05)
            yield None

    trainer = Engine(lambda engine, batch: time.sleep(0.02))
    trainer.add_event_handler(Events.STARTED | Events.EPOCH_COMPLETED, lambda: time.sleep(0.05))
    timer = StepTimer(trainer)
    trainer.run(loading(), max_epochs=1, epoch_length=3)
    assert 0.02 <= timer.seconds < 0.05


def test_no_step() -> None:
    assert math.isnan(StepTimer(Engine(lambda engine, batch: None)).seconds)


def test_seconds_per_sample() -> None:
    class Slow(IndependentSampler):
        def predictive(self, x):
            assert not self.training
            time.sleep(0.08)
            return super().predictive(x)

    network = Slow(torch.nn.Conv2d(1, 2, 1)).train()
    seconds = seconds_per_sample(network, torch.zeros(4, 1, 2, 2), num_samples=10)
    assert 0.08 / 40 <= seconds < 0.2 / 40


def peak(earlier: int, size: int, queue) -> None:
    np.ones(earlier * MIB // 8).sum()  # an earlier job of the process
    memory = PeakMemory()
    np.ones(size * MIB // 8).sum()
    queue.put(memory.bytes(torch.device("cpu")) / MIB)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").is_file(), reason="Linux tells the memory of a process")
@pytest.mark.parametrize("earlier", [0, 400])
def test_peak_memory_of_a_child(earlier) -> None:
    held = np.ones(300 * MIB // 8)  # of the parent, which the child has too
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    child = context.Process(target=peak, args=(earlier, 200, queue))
    child.start()
    child.join()
    assert queue.get() == pytest.approx(200, rel=0.2)
    assert held[0] == 1
