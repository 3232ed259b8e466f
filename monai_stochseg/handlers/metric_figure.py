# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ignite.engine import Engine, Events
from matplotlib.figure import Figure

from monai_stochseg.data import new_file


class MetricFigure:
    """
    Draws a figure of what an evaluator's metric has gathered, at the end of its run.

    Args:
        filename: the figure, in any format of matplotlib.
        draw: makes the figure. It is called in each process, since metrics gather over all of them.
    """

    def __init__(self, filename: str, draw: Callable[[], Figure]) -> None:
        self.filename = Path(filename)
        self.draw = draw

    def attach(self, engine: Engine) -> None:
        """Attach to an evaluator."""
        engine.add_event_handler(Events.COMPLETED, self._draw)

    def _draw(self, engine: Engine) -> None:
        figure = self.draw()
        if engine.state.rank != 0:
            return
        with new_file(self.filename) as temporary:
            figure.savefig(temporary, dpi=130)
        engine.logger.info(f"Wrote {self.filename}.")
