# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from ignite.engine import Engine, Events

from monai_stochseg.data import new_file
from monai_stochseg.visualize import plot_samples


class SampleFigure:
    """
    Draws the evaluator's first case at each new best metric, so that the figure goes with the best checkpoint.

    Args:
        filename: the figure, in any format of matplotlib's.
        class_names: names of the classes, the background first.
        channel: channel of the image that is shown.
        max_samples: number of samples that are shown; default: one row of them.
        indexing: ``"xy"`` or ``"ij"``, see :py:func:`monai_stochseg.visualize.plot_samples`.
        title: stands above the figure, before the epoch and the value of the key metric.
        max_raters: number of raters that are shown; default: all.
        colours: of the classes, see :py:func:`monai_stochseg.visualize.plot_samples`.
        calibration_key: entry of the output that is a calibration output, which is shown in the place of the entropy.
        epoch: whether the evaluator's epoch is that of a training, and is shown.
    """

    def __init__(
        self,
        filename: str,
        class_names: Sequence[str] | None = None,
        channel: int = 0,
        max_samples: int | None = None,
        indexing: str = "xy",
        title: str | None = None,
        max_raters: int | None = None,
        colours: Sequence[str] | None = None,
        calibration_key: str | None = None,
        epoch: bool = True,
    ) -> None:
        self.filename = Path(filename)
        self.class_names = class_names
        self.channel = channel
        self.max_samples = max_samples
        self.indexing = indexing
        self.title = title
        self.max_raters = max_raters
        self.colours = colours
        self.calibration_key = calibration_key
        self.epoch = epoch
        self._first: dict = {}
        self._best: float | None = None

    def attach(self, engine: Engine) -> None:
        """Attach to a :py:class:`monai_stochseg.engines.StochasticEvaluator` after its key metric is registered."""
        engine.add_event_handler(Events.ITERATION_COMPLETED(once=1), self._keep)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._draw)

    def _keep(self, engine: Engine) -> None:
        if engine.state.output:  # this process may have no case, but the first one, which draws, has one
            self._first = engine.state.output[0]

    def _is_best(self, engine: Engine) -> bool:
        state = engine.state
        if state.epoch < 1:  # the untrained network, which is in no checkpoint
            return False
        if state.key_metric_name is None:
            return True
        value = state.metrics[state.key_metric_name]
        if self._best is None and 1 <= state.best_metric_epoch < state.epoch:
            self._best = state.best_metric  # of the run that this one resumes
        if math.isnan(value) or (self._best is not None and not engine.metric_cmp_fn(value, self._best)):
            return False
        self._best = value
        return True

    def _caption(self, engine: Engine) -> str | None:
        """The title, then the epoch of a training and the key metric."""
        state, parts = engine.state, [] if self.title is None else [self.title]
        if self.epoch:
            parts.append(f"epoch {state.epoch}")
        if state.key_metric_name is not None:
            parts.append(f"{state.key_metric_name} {state.metrics[state.key_metric_name]:.4g}")
        return ", ".join(parts) or None

    def _draw(self, engine: Engine) -> None:
        first, self._first = self._first, {}
        if engine.state.rank != 0 or not self._is_best(engine):
            return
        figure = plot_samples(
            first["image"],
            first["samples"],
            first["probabilities"],
            first.get("label"),
            self.class_names,
            self.channel,
            self.max_samples,
            indexing=self.indexing,
            title=self._caption(engine),
            max_raters=self.max_raters,
            colours=self.colours,
            calibration=None if self.calibration_key is None else first[self.calibration_key],
        )
        with new_file(self.filename) as temporary:
            figure.savefig(temporary, dpi=130)
