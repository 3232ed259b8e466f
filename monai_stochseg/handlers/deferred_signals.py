# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["deferred_signals"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_PATIENCE = 2


@contextmanager
def deferred_signals() -> Iterator[None]:
    """
    Make Ctrl-C and SIGTERM wait until a block is done, as a context or a decorator.

    For a short block that must not be interrupted: an exception inside a database transaction leaves the database
    locked. The third signal of a block does not wait, so that a block which hangs can be stopped. Outside the main
    thread, where Python handles no signals, it does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former = {number: signal.getsignal(number) or signal.SIG_DFL for number in _SIGNALS}
    received: list[int] = []

    def wait(number: int, frame: FrameType | None) -> None:
        received.append(number)
        if len(received) > _PATIENCE:
            signal.signal(number, former[signal.Signals(number)])
            signal.raise_signal(number)

    try:
        for number in _SIGNALS:
            signal.signal(number, wait)
        yield
    finally:
        for number in _SIGNALS:
            signal.signal(number, former[number])
    for number in _SIGNALS:
        if number in received:
            signal.raise_signal(number)
