# SPDX-License-Identifier: Apache-2.0
"""Jobs one after the other, each in a process of its own, with a log instead of output."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn


def run_job(name: str, job: Callable[[], None], log: Path) -> bool:
    """
    Run a job in a new process, so that its memory is its own and an error ends it alone.

    The process comes from a server that has done nothing yet: neither a GPU nor threads are inherited. Ctrl-C and
    SIGTERM end it too, and a training keeps its state.

    Args:
        name: in the log, and before the one line that an error leaves on stderr.
        job: can be pickled.
        log: a file, to the end of which all output goes.

    Returns:
        whether the job succeeded.
    """
    server = "forkserver" in multiprocessing.get_all_start_methods()
    context: Any = multiprocessing.get_context("forkserver" if server else "spawn")
    if server:
        context.set_forkserver_preload(["monai_stochseg.benchmark.run"])
    child = context.Process(target=_in_child, args=(name, job, log))
    former = signal.signal(signal.SIGTERM, _exit)
    try:
        child.start()
        child.join()
    finally:
        if child.is_alive():
            child.terminate()
            child.join()
        signal.signal(signal.SIGTERM, former)
    return child.exitcode == 0


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


def _in_child(name: str, job: Callable[[], None], log: Path) -> None:
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
