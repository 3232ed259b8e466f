# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
import time
from pathlib import Path
from typing import NamedTuple

import torch
from ignite.engine import Engine, Events
from ignite.handlers import Timer

from monai_stochseg.bundle import select_device
from monai_stochseg.distributions import PredictiveDistribution

_ROUNDS = 3


class StepTimer:
    """
    Seconds per training step, from a batch at hand to the optimiser's step; neither loading nor validation counts.

    Args:
        trainer: attached to its events.
    """

    def __init__(self, trainer: Engine) -> None:
        self._timer = Timer(average=True)
        self._timer.attach(
            trainer,
            start=Events.STARTED,
            resume=Events.ITERATION_STARTED,
            pause=Events.ITERATION_COMPLETED,
            step=Events.ITERATION_COMPLETED,
        )
        trainer.add_event_handler(Events.STARTED, self._timer.pause)  # until there is a batch

    @property
    def seconds(self) -> float:
        """Mean seconds per step, NaN where there was none."""
        return float(self._timer.value()) if self._timer.step_count else math.nan


class SamplingTime(NamedTuple):
    """
    What sampling an image costs: ``image + num_samples * sample``.

    Args:
        image: seconds for what is computed once for an image, whatever the number of its samples.
        sample: seconds for one more sample of an image.
    """

    image: float
    sample: float


@torch.no_grad()
def sampling_time(network: torch.nn.Module, images: torch.Tensor, num_samples: int = 16) -> SamplingTime:
    """
    Seconds for the samples of an image, what they share apart. What a distribution computes at its first draw, and
    keeps for the others, is shared too. All is done three times, and the least times count: what else the machine does
    makes them longer.

    Args:
        network: with ``predictive``, on the images' device.
        images: ``[B, C_in, *S]``; the times are for one of them.
        num_samples: further samples that are drawn of each image, one after the other.
    """
    network.eval()
    generator = torch.Generator(images.device).manual_seed(0)
    first_times, sample_times = [], []
    for _ in range(_ROUNDS):  # the first warms up
        start = time.perf_counter()
        distribution: PredictiveDistribution = network.predictive(images)  # type: ignore[operator]
        _draw(distribution, generator)
        first = time.perf_counter()
        for _ in range(num_samples):
            _draw(distribution, generator)
        first_times.append(first - start)
        sample_times.append((time.perf_counter() - first) / num_samples)
    sample = min(sample_times)
    return SamplingTime(max(min(first_times) - sample, 0.0) / len(images), sample / len(images))


def _draw(distribution: PredictiveDistribution, generator: torch.Generator) -> None:
    """One sample of each image; waits for a GPU."""
    distribution.sample_logits(1, generator).sum().item()


class PeakMemory:
    """The most memory that this process takes from now on."""

    def __init__(self) -> None:
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats(select_device())
        try:
            Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # proc(5): resets VmHWM
            self._before = _resident("VmRSS")
        except OSError:
            self._before = math.nan

    def bytes(self, device: torch.device) -> float:
        """
        The peak so far: what PyTorch has allocated on a GPU; on a CPU the resident memory beyond that at the beginning,
        NaN where the system does not tell (it is Linux that does).

        Args:
            device: whose memory.
        """
        if device.type == "cuda":
            return float(torch.cuda.max_memory_allocated(device))
        return math.nan if math.isnan(self._before) else _resident("VmHWM") - self._before


def _resident(field: str) -> float:
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return next(float(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith(f"{field}:"))
