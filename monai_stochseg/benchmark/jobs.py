# SPDX-License-Identifier: Apache-2.0
"""Jobs, each in a process of its own, with a log instead of output."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing import connection
from pathlib import Path
from typing import Any, NoReturn

import torch


def run_jobs(
    jobs: Mapping[str, Callable[[], None]],
    log: Path,
    workers: int = 1,
    started: Callable[[str], None] = lambda name: None,
) -> dict[str, bool]:
    """
    Run jobs, each in a new process, so that its memory is its own and an error ends it alone.

    A process comes from a server that has done nothing yet: neither a GPU nor threads are inherited. Ctrl-C and SIGTERM
    end all of them, and a training keeps its state.

    Args:
        jobs: by name, which stands in the log and before the one line that an error leaves on stderr; they can be
            pickled.
        log: a file, to the end of which the output of each job goes when it has ended; until then it is beside it.
        workers: how many run at a time. They share PyTorch's threads among them.
        started: is told each name.

    Returns:
        whether each job succeeded.
    """
    server = "forkserver" in multiprocessing.get_all_start_methods()
    context: Any = multiprocessing.get_context("forkserver" if server else "spawn")
    if server:
        context.set_forkserver_preload(["monai_stochseg.benchmark.run"])
    threads = max(1, torch.get_num_threads() // workers)
    waiting = list(jobs.items())
    running: dict[int, tuple[str, Any, Path]] = {}
    succeeded: dict[str, bool] = {}
    former = signal.signal(signal.SIGTERM, _exit)
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                name, job = waiting.pop(0)
                part = log.with_name(f"{log.name}.{len(jobs) - len(waiting)}")
                child = context.Process(target=_in_child, args=(name, job, part, threads))
                started(name)
                child.start()
                running[child.sentinel] = (name, child, part)
            for ended in connection.wait(list(running)):
                name, child, part = running.pop(ended)  # type: ignore[arg-type]
                child.join()
                succeeded[name] = child.exitcode == 0
                _append(part, log)
    finally:
        for _, child, _ in running.values():
            child.terminate()
        for _, child, part in running.values():
            child.join()
            _append(part, log)
        signal.signal(signal.SIGTERM, former)
    return succeeded


def _append(part: Path, log: Path) -> None:
    """Move what a job has printed to the end of the log."""
    if part.is_file():
        with log.open("ab") as file:
            file.write(part.read_bytes())
        part.unlink()


@contextmanager
def output_to(log: Path) -> Iterator[None]:
    """What this process and its libraries print goes to the end of a file, which handlers of loggers do not evade."""
    kept = {number: os.dup(number) for number in (1, 2)}
    try:
        with log.open("ab") as file:
            _redirect({number: file.fileno() for number in kept})
        yield
    finally:
        _redirect(kept)
        for copy in kept.values():
            os.close(copy)


def _redirect(to: dict[int, int]) -> None:
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    for number, other in to.items():
        os.dup2(other, number)


def _exit(number: int, frame: Any) -> NoReturn:
    sys.exit(128 + number)


def _in_child(name: str, job: Callable[[], None], log: Path, threads: int) -> None:
    torch.set_num_threads(threads)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent's SIGTERM follows, and it alone
    try:
        with output_to(log):
            print(f"== {name}", flush=True)
            try:
                job()
            except Exception:
                traceback.print_exc()
                raise
    except Exception as error:
        cause: BaseException = error  # MONAI wraps whatever fails within a configuration
        while cause.__cause__ is not None:
            cause = cause.__cause__
        sys.exit(f"{name}: {type(cause).__name__}: {cause}")
