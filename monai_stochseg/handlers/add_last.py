# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ignite.engine import Engine, Events

__all__ = ["add_last"]


def add_last(engine: Engine, event: Any, handler: Callable, rank: int = 0) -> None:
    """
    Add ``handler`` to ``event`` when the run starts, and so after the handlers attached before the run.

    Args:
        engine: any ignite engine.
        event: an ignite event, with or without a filter.
        handler: as for ``engine.add_event_handler``.
        rank: 1 puts it behind those of rank 0.
    """
    if not hasattr(engine.state, "added_last"):
        engine.state.added_last = _AddedLast(engine)
    engine.state.added_last.handlers.append((rank, event, handler))


class _AddedLast:
    """The handlers of one engine that are added when its run starts."""

    def __init__(self, engine: Engine) -> None:
        self.handlers: list[tuple[int, Any, Callable]] = []
        engine.add_event_handler(Events.STARTED, self._add)

    def _add(self, engine: Engine) -> None:
        for _, event, handler in sorted(self.handlers, key=lambda entry: entry[0]):
            if not engine.has_event_handler(handler, event):
                engine.add_event_handler(event, handler)
