# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

from ignite.engine import Engine, Events

from monai_stochseg.metrics import ExpectedCalibrationErrorMetric
from monai_stochseg.visualize.reliability import plot_reliability


class ReliabilityFigure:
    """
    Draws an evaluator's reliability diagram and histogram of the confidence at the end of its run.

    Args:
        filename: the figure, in any format of matplotlib's.
        metric: the calibration error that the evaluator updates.
        name: of the model, in the legend.
        confidence_label: label of the horizontal axis, see :py:func:`monai_stochseg.visualize.plot_reliability`.
    """

    def __init__(
        self,
        filename: str,
        metric: ExpectedCalibrationErrorMetric,
        name: str = "model",
        confidence_label: str = "confidence",
    ) -> None:
        self.filename = Path(filename)
        self.metric = metric
        self.name = name
        self.confidence_label = confidence_label

    def attach(self, engine: Engine) -> None:
        """Attach to an evaluator."""
        engine.add_event_handler(Events.COMPLETED, self._draw)

    def _draw(self, engine: Engine) -> None:
        bins = self.metric.bins()  # of all processes, so each takes part
        if engine.state.rank != 0:
            return
        self.filename.parent.mkdir(parents=True, exist_ok=True)
        plot_reliability({self.name: bins}, self.confidence_label).savefig(self.filename, dpi=130)
        engine.logger.info(f"Wrote {self.filename}.")
