# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import sys
from typing import Any

import ignite.distributed as idist
from ignite.engine import Engine, Events
from ignite.handlers import ProgressBar

from monai_stochseg.handlers.exceptions import on_exception
from monai_stochseg.handlers.iteration_loss import iteration_loss


class TrainingProgress(ProgressBar):
    """
    Ignite's progress bar with the training loss, on the first process and on a terminal only.

    The bar is closed, and its line emptied, before another handler of the epoch's end can log, whatever the order of
    the handlers, and when the training stops by an exception.

    Args:
        kwargs: arguments of ignite's ProgressBar.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"desc": "training", **kwargs})

    def attach(self, engine: Engine, *args: Any, **kwargs: Any) -> None:
        """Attach to a trainer whose output has a ``loss``."""
        if idist.get_rank() == 0 and sys.stderr.isatty():
            super().attach(engine, output_transform=lambda output: {"loss": iteration_loss(output)})
            # ignite closes in the order of the handlers, after those of the epoch's end that were attached before
            engine.add_event_handler(Events.ITERATION_COMPLETED, self._close_last)
            on_exception(engine, lambda engine, _: self._close(engine))

    def _close_last(self, engine: Engine) -> None:
        if self.pbar is not None and self.pbar.total is not None and self.pbar.n >= self.pbar.total:
            self._close(engine)
