# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import signal
import threading
from contextlib import suppress
from types import FrameType
from typing import Any

__all__ = ["StopSignals"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_PATIENCE = 2


class StopSignals:
    """
    Makes Ctrl-C and SIGTERM of a run wait for a point where the run can stop.

    An exception in the middle of an optimizer's step would leave half of the weights stepped. So a signal is only
    noted, and :meth:`check`, called where the state is whole, raises ``KeyboardInterrupt`` or ``SystemExit(143)``.
    Launchers send a signal several times within milliseconds, and all count as one; but the third Ctrl-C does not wait,
    so that a run which hangs can be stopped. A signal that the process ignores stays ignored, and nothing is done
    outside the main thread, where Python handles no signals.
    """

    def __init__(self) -> None:
        self._former: dict[signal.Signals, Any] = {}
        self._received: list[signal.Signals] = []

    def listen(self) -> None:
        """Note signals from now on."""
        if threading.current_thread() is not threading.main_thread() or self._former:
            return
        former = {number: signal.getsignal(number) for number in _SIGNALS}
        self._former = {number: handler for number, handler in former.items() if handler is not signal.SIG_IGN}
        for number in self._former:
            signal.signal(number, self._note)

    def restore(self) -> None:
        """Give the signals back to their former handlers."""
        for number, handler in self._former.items():
            signal.signal(number, handler or signal.SIG_DFL)
        self._former, self._received = {}, []

    def check(self) -> None:
        """
        Stop here if a signal has come.

        Raises:
            KeyboardInterrupt: after Ctrl-C.
            SystemExit: after SIGTERM, with the status 143.
        """
        if self._received:
            self._raise(self._received[0])

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._received.append(signal.Signals(number))
        interrupts = self._received.count(signal.SIGINT)
        if interrupts > _PATIENCE:
            self._raise(signal.SIGINT)
        if interrupts == 1 and number == signal.SIGINT:
            with suppress(OSError):  # a process without a terminal
                os.write(2, _NOTICE)  # not by print: the signal may have come within one

    def _raise(self, number: signal.Signals) -> None:
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + number)


_NOTICE = b"\nCtrl-C: stopping when this iteration is complete; press it twice more to stop at once.\n"
