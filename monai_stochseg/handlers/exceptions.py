# SPDX-License-Identifier: Apache-2.0
"""Actions for when a run fails or is stopped; the exception is raised again after them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

from ignite.engine import Engine, Events

from monai_stochseg.handlers.add_last import add_last
from monai_stochseg.handlers.stop_signals import StopSignals

__all__ = ["NonFiniteError", "on_exception", "stop_within"]

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

    During the run Ctrl-C and SIGTERM (a cluster's time limit) wait, see :class:`StopSignals`: until a batch is loaded,
    an iteration is complete, or, after the last iteration of an epoch, until all handlers of the epoch's end have run;
    :func:`stop_within` adds points to these. They then raise ``KeyboardInterrupt`` or ``SystemExit(143)``, so that the
    actions run; the former signal handlers are restored afterwards. Runs outside the main thread change no handler.

    Args:
        engine: any ignite engine, usually a trainer.
        action: called with the engine and the exception.
    """
    _actions(engine).actions.append(action)


def stop_within(engine: Engine, other: Engine) -> None:
    """
    Let Ctrl-C and SIGTERM stop a run of ``engine`` between the iterations of another engine, which runs in its handlers
    and changes nothing, such as that of a validation.

    Args:
        engine: one with :func:`on_exception`.
        other: an engine.
    """
    other.add_event_handler(Events.ITERATION_STARTED, _actions(engine).signals.check)


def _actions(engine: Engine) -> _ExceptionActions:
    if not hasattr(engine.state, "exception_actions"):
        engine.state.exception_actions = _ExceptionActions(engine)
    actions: _ExceptionActions = engine.state.exception_actions
    return actions


class _ExceptionActions:
    """The actions of one engine, and the signals that stop it."""

    def __init__(self, engine: Engine) -> None:
        self.actions: list[Action] = []
        self.signals = StopSignals()
        engine.add_event_handler(Events.STARTED, self.signals.listen)
        engine.add_event_handler(Events.GET_BATCH_COMPLETED, self.signals.check)
        add_last(engine, Events.ITERATION_COMPLETED, self._check_within_epoch, rank=1)
        add_last(engine, Events.EPOCH_COMPLETED, self.signals.check, rank=1)
        add_last(engine, Events.COMPLETED, self._completed, rank=1)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self._run)

    def _check_within_epoch(self, engine: Engine) -> None:
        length = engine.state.epoch_length
        if length is None or engine.state.iteration % length:
            self.signals.check()

    def _completed(self) -> None:
        self.signals.check()  # what follows the run must not begin
        self.signals.restore()

    def _run(self, engine: Engine, exception: BaseException) -> NoReturn:
        handled_by = exception.__dict__.setdefault("handled_by", [])
        if engine not in handled_by:
            handled_by.append(engine)
            for action in self.actions:
                try:
                    action(engine, exception)
                except Exception:
                    engine.logger.exception(f"after {type(exception).__name__}: {action} failed")
            self.signals.restore()
        raise exception
