# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import time
from pathlib import Path

import torch
from ignite.engine import Engine, Events
from ignite.handlers import Timer

from monai_stochseg.distributions import PredictiveDistribution


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

    @property
    def steps(self) -> int:
        """Steps counted."""
        return int(self._timer.step_count)

    @property
    def seconds(self) -> float:
        """Mean seconds per step."""
        return float(self._timer.value())


@torch.no_grad()
def seconds_per_sample(network: torch.nn.Module, images: torch.Tensor, num_samples: int = 16) -> float:
    """
    Seconds for one sample of one image, the network's part that its samples share divided among them.

    Args:
        network: with ``predictive``, on the images' device.
        images: ``[B, C_in, *S]``.
        num_samples: drawn of each image.
    """
    network.eval()
    generator = torch.Generator(images.device).manual_seed(0)
    times = []
    for _ in range(2):  # the first warms up
        start = time.perf_counter()
        distribution: PredictiveDistribution = network.predictive(images)  # type: ignore[operator]
        for _ in range(num_samples):
            distribution.sample_logits(1, generator).sum().item()  # waits for a GPU
        times.append(time.perf_counter() - start)
    return times[-1] / (num_samples * len(images))


class PeakMemory:
    """
    Bytes of the largest memory that the process has taken since: of the GPU, or the resident memory (Linux) beyond what
    it had. NaN where the system does not tell.

    Args:
        device: whose memory.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        self._before = _resident("VmRSS")

    @property
    def bytes(self) -> float:
        """The peak so far."""
        if self._device.type == "cuda":
            return float(torch.cuda.max_memory_allocated(self._device))
        return _resident("VmHWM") - self._before


def _resident(field: str) -> float:
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text(encoding="utf-8").splitlines():
            if line.startswith(f"{field}:"):
                return float(line.split()[1]) * 1024
    return float("nan")
