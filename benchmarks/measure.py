# SPDX-License-Identifier: Apache-2.0
"""Time and memory of a call."""

from __future__ import annotations

import ctypes
import multiprocessing
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import torch


def seconds(fn: Callable[[], object], repeats: int = 3) -> float:
    """Wall-clock seconds of the fastest of ``repeats`` calls."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        fn()
        times.append(time.perf_counter() - start)
    return min(times)


def peak_memory(fn: Callable[[], object]) -> int:
    """
    Bytes by which one call raises the peak resident memory (Linux).

    The call runs on one thread in a forked child, which inherits what is allocated already: inputs made beforehand do
    not count, and nothing that earlier calls freed is reused.
    """
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_report_peak, args=(fn, sender))
    child.start()
    sender.close()
    try:
        return receiver.recv()
    except EOFError:
        raise RuntimeError("the measured call failed; its error is printed above.") from None
    finally:
        child.join()


def _report_peak(fn: Callable[[], object], sender: Connection) -> None:
    torch.set_num_threads(1)  # the parent's pool of threads does not survive the fork
    before = _status_bytes("VmRSS")
    fn()
    sender.send(_status_bytes("VmHWM") - before)


def _status_bytes(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {field}.")
