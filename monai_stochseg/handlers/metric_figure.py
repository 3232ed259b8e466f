# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from matplotlib.figure import Figure

from monai_stochseg.data import new_file
from monai_stochseg.data.csv_file import write_csv


class MetricFigure:
    """
    Draws a figure of what an evaluator's metric has gathered, at the end of its run.

    Args:
        filename: the figure, in any format of matplotlib.
        draw: makes the figure. It is called in each process, since metrics gather over all of them.
        rows: makes the figure's numbers, the heading first, which are written beside it as ``.csv``; called likewise.
            Default: none are written.
    """

    def __init__(
        self,
        filename: str,
        draw: Callable[[], Figure],
        rows: Callable[[], Iterable[Sequence[Any]]] | None = None,
    ) -> None:
        self.filename = Path(filename)
        self.draw = draw
        self.rows = rows

    def attach(self, engine: Engine) -> None:
        """Attach to an evaluator."""
        engine.add_event_handler(Events.COMPLETED, self._draw)

    def _draw(self, engine: Engine) -> None:
        figure, rows = self.draw(), None if self.rows is None else self.rows()
        if engine.state.rank != 0:
            return
        if rows is not None:
            write_csv(self.filename.with_suffix(".csv"), rows)
        with new_file(self.filename) as temporary:
            figure.savefig(temporary, dpi=130)
        engine.logger.info(f"Wrote {self.filename}.")
