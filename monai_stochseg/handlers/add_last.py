# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ignite.engine import Engine, Events

__all__ = ["add_last"]


def add_last(engine: Engine, event: Any, handler: Callable) -> None:
    """
    Add ``handler`` to ``event`` when the run starts, and so after the handlers attached before the run.

    Args:
        engine: any ignite engine.
        event: an ignite event, with or without a filter.
        handler: as for ``engine.add_event_handler``.
    """

    def add() -> None:
        if not engine.has_event_handler(handler, event):
            engine.add_event_handler(event, handler)

    engine.add_event_handler(Events.STARTED, add)
