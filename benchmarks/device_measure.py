# SPDX-License-Identifier: Apache-2.0
"""Time and memory of a call on a GPU or a CPU."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from measure import peak_memory


def synchronize(device: torch.device) -> None:
    """Wait for what a GPU has been given; a CPU is done when a call returns."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(fn: Callable[[], object], device: torch.device, repeats: int = 3) -> float:
    """Wall-clock seconds of the fastest of ``repeats`` calls, after one that warms up."""
    fn()
    times = []
    for _ in range(repeats):
        synchronize(device)
        start = time.perf_counter()
        fn()
        synchronize(device)
        times.append(time.perf_counter() - start)
    return min(times)


def peak_bytes(fn: Callable[[], object], device: torch.device) -> float:
    """Bytes that a call takes at its peak beyond what was there: of tensors on a GPU, resident on a CPU."""
    if device.type != "cuda":
        return float(peak_memory(fn))
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    fn()
    torch.cuda.synchronize(device)
    return float(torch.cuda.max_memory_allocated(device) - before)


def copy_bandwidth(device: torch.device, size: int) -> float:
    """Bytes a second that a plain copy of ``size`` bytes moves: each is read once and written once."""
    source = torch.zeros(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * size / seconds(lambda: target.copy_(source), device, 10)
