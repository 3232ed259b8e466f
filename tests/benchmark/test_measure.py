# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events

from monai_stochseg.benchmark.jobs import run_jobs
from monai_stochseg.benchmark.measure import PeakMemory, SamplingTime, StepTimer, sampling_time
from monai_stochseg.distributions import PredictiveDistribution
from monai_stochseg.networks.nets import IndependentSampler

MIB = 2**20


class Clock:
    """In the place of ``time.perf_counter``: time passes where the test says so."""

    now = 0.0

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "perf_counter", clock)
    monkeypatch.setattr("ignite.handlers.timing.perf_counter", clock)
    return clock


def test_a_step_without_loading_and_validation(clock) -> None:
    def loading():
        for _ in range(3):
            clock.wait(5)
            yield None

    trainer = Engine(lambda engine, batch: clock.wait(2))
    trainer.add_event_handler(Events.STARTED | Events.EPOCH_COMPLETED, lambda: clock.wait(5))
    timer = StepTimer(trainer)
    trainer.run(loading(), max_epochs=1, epoch_length=3)
    assert timer.seconds == pytest.approx(2)


def test_no_step() -> None:
    assert math.isnan(StepTimer(Engine(lambda engine, batch: None)).seconds)


class Slow(PredictiveDistribution):
    """What it computes at its first draw it keeps."""

    def __init__(self, clock: Clock, first: float, each: float) -> None:
        self.clock, self.first, self.each = clock, first, each

    def sample_logits(self, n, generator=None):
        self.clock.wait(self.first + n * self.each)
        self.first = 0
        return torch.zeros(4, n, 2, 2, 2)

    def mode_logits(self):
        return torch.zeros(4, 2, 2, 2)


@pytest.mark.parametrize(
    ("once", "first", "each", "expected"),
    [(8, 0, 0.5, (2, 0.125)), (8, 4, 0.5, (3, 0.125)), (0, 0, 2, (0, 0.5)), (8, 0, 0, (2, 0))],
)
def test_the_time_of_a_sample_and_what_samples_share(clock, once, first, each, expected) -> None:
    """Of four images, so that an image has a quarter."""

    class Network(torch.nn.Module):
        def predictive(self, x):
            assert not self.training
            clock.wait(once)
            return Slow(clock, first, each)

    found = sampling_time(Network().train(), torch.zeros(4, 1, 2, 2), num_samples=10)
    assert found == pytest.approx(SamplingTime(*expected))


def test_the_least_time_counts(clock) -> None:
    """The first round is slow, and so is the last: the machine does something else."""
    slow = iter([3, 1, 2])

    class Network(torch.nn.Module):
        def predictive(self, x):
            factor = next(slow)
            clock.wait(8 * factor)
            return Slow(clock, 0, factor)

    found = sampling_time(Network(), torch.zeros(4, 1, 2, 2), num_samples=10)
    assert found == pytest.approx(SamplingTime(2, 0.25))


def test_the_time_of_a_real_network() -> None:
    """A sample of each pixel by itself costs little beside a large convolution."""
    network = IndependentSampler(torch.nn.Sequential(torch.nn.Conv2d(1, 256, 9), torch.nn.Conv2d(256, 2, 9)))
    found = sampling_time(network, torch.zeros(2, 1, 64, 64), num_samples=4)
    assert found.image > found.sample > 0


def peak(earlier: int, size: int, file: Path) -> None:
    np.ones(earlier * MIB // 8).sum()  # an earlier job of the process
    memory = PeakMemory()
    np.ones(size * MIB // 8).sum()
    file.write_text(str(memory.bytes(torch.device("cpu")) / MIB))


@pytest.mark.skipif(not Path("/proc/self/clear_refs").is_file(), reason="Linux tells the memory of a process")
@pytest.mark.parametrize("earlier", [0, 400])
def test_peak_memory_of_a_job(tmp_path, earlier) -> None:
    assert run_jobs({"peak": partial(peak, earlier, 200, tmp_path / "peak")}, tmp_path / "log")["peak"]
    assert float((tmp_path / "peak").read_text()) == pytest.approx(200, rel=0.2)
