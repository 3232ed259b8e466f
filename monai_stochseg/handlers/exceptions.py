# SPDX-License-Identifier: Apache-2.0
"""Actions for when a run fails or is stopped; the exception is raised again after them."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, NoReturn

from ignite.engine import Engine, Events

from monai_stochseg.handlers.add_last import add_last

__all__ = ["NonFiniteError", "on_exception"]

Action = Callable[[Engine, BaseException], None]


class NonFiniteError(FloatingPointError):
    """A loss or a gradient of a training is NaN or infinite."""


def on_exception(engine: Engine, action: Action) -> None:
    """
    Call ``action(engine, exception)`` once when a run of ``engine`` ends by an exception, Ctrl-C or SIGTERM.

    All actions of an engine run, in the order of registration, and then the exception is raised again. Ignite alone
    runs only the handlers of ``Events.EXCEPTION_RAISED`` up to the first that raises, runs them twice for an exception
    inside an epoch, and swallows the exception if none raises. For the same reason the first ``on_exception`` must come
    before MONAI's ``StatsHandler``, which raises, is attached. An action that fails is logged; it does not hide the
    exception.

    During the run a SIGTERM (a cluster's time limit) raises ``SystemExit(143)`` in the main thread, so that the actions
    run; the former signal handler is restored afterwards. Runs outside the main thread do not change the handler.

    Args:
        engine: any ignite engine, usually a trainer.
        action: called with the engine and the exception.
    """
    if not hasattr(engine.state, "exception_actions"):
        engine.state.exception_actions = _ExceptionActions(engine)
    engine.state.exception_actions.actions.append(action)


class _ExceptionActions:
    """The actions of one engine, and its SIGTERM handler while it runs."""

    def __init__(self, engine: Engine) -> None:
        self.actions: list[Action] = []
        self._listening = False
        self._terminated = False
        self._previous: Any = None
        engine.add_event_handler(Events.STARTED, self._listen)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._raise_if_terminated)
        add_last(engine, Events.COMPLETED, self._restore)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self._run)

    def _listen(self) -> None:
        if threading.current_thread() is threading.main_thread() and not self._listening:
            self._previous = signal.signal(signal.SIGTERM, self._terminate)
            self._listening = True

    def _restore(self) -> None:
        if self._listening:
            signal.signal(signal.SIGTERM, self._previous or signal.SIG_DFL)
            self._listening = self._terminated = False

    def _terminate(self, signum: int, frame: FrameType | None) -> None:
        # launchers send the signal again within milliseconds: a second exception would cut the actions short
        if not self._terminated:
            self._terminated = True
            raise SystemExit(128 + signum)

    def _raise_if_terminated(self) -> None:
        # Python drops an exception raised inside a finaliser, so the signal may have been lost there
        if self._terminated:
            raise SystemExit(128 + signal.SIGTERM)

    def _run(self, engine: Engine, exception: BaseException) -> NoReturn:
        handled_by = exception.__dict__.setdefault("handled_by", [])
        if engine not in handled_by:
            handled_by.append(engine)
            for action in self.actions:
                try:
                    action(engine, exception)
                except Exception:
                    engine.logger.exception(f"after {type(exception).__name__}: {action} failed")
            self._restore()
        raise exception
