# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import re
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from mlflow.entities import Metric
from monai.handlers import MLFlowHandler
from monai.utils import flatten_dict, path_to_sqlite_uri, path_to_uri
from torch import distributed

from monai_stochseg.handlers.add_last import add_last
from monai_stochseg.handlers.deferred_signals import deferred_signals
from monai_stochseg.handlers.exceptions import on_exception
from monai_stochseg.handlers.iteration_loss import iteration_loss
from monai_stochseg.handlers.mlflow_database import make_database, naming_database, without_environment

__all__ = ["MLFlowTracker"]

_METRICS_PER_REQUEST = 500  # MLflow's limit is 1000
_PARAMETERS_PER_REQUEST = 100  # MLflow's limit
_LARGEST_ARRAY = 100


class MLFlowTracker(MLFlowHandler):
    """
    Handler of a trainer that logs its training to MLflow, one new run per training.

    The run has the loss and learning rate of the iterations, the metrics of the trainer and, at each validation,
    those of the ``evaluator``, with the trainer's epoch as the step. It ends as FINISHED, as FAILED on an exception,
    as KILLED on Ctrl-C and SIGTERM. An array metric is logged as ``name_0``, ``name_1``, ...; other
    values, and arrays of more than 100, are left out. In distributed training only rank 0 logs. Put this handler
    before ``StatsHandler``, which hides exceptions from handlers after it.

    Args:
        output_dir: folder for the default database ``mlruns.db`` and its artifacts ``mlruns``, made when absent.
        tracking_uri: a tracking server or database instead. Without it, the environment variable
            ``MLFLOW_TRACKING_URI`` comes before the default database.
        evaluator: the engine that validates during training.
        experiment_name: MLflow's experiment, made when absent.
        run_name: name of the run, default its time and a random suffix. Runs are never shared, even when names are
            equal.
        experiment_param: flat dictionary of the run's settings, logged as MLflow's parameters.
        artifacts: files and folders to log when training completes; a warning names those that are not there.
        figures: the same, of a run that need not have them: no network of it may have been the best.
        iteration_log: whether to log at each iteration, or a filter of events as in MONAI.
        output_transform: what to log of an iteration's output.
        tag_name: name of the loss.
        kwargs: other arguments of MONAI's ``MLFlowHandler``.

    Raises:
        ValueError: when there is neither ``output_dir`` nor ``tracking_uri``.
        RuntimeError: when MLflow cannot open or write the database; names it.
        TypeError: when a value of ``experiment_param`` is a dictionary.
    """

    artifacts: Sequence[str | os.PathLike[str]]

    def __init__(
        self,
        output_dir: str | os.PathLike[str] | None = None,
        tracking_uri: str | None = None,
        evaluator: Engine | None = None,
        experiment_name: str = "monai_stochseg",
        run_name: str | None = None,
        experiment_param: Mapping[str, Any] | None = None,
        artifacts: str | Sequence[str | os.PathLike[str]] | None = None,
        figures: Sequence[str | os.PathLike[str]] = (),
        iteration_log: bool | Callable[[Engine, int], bool] = True,
        output_transform: Callable = iteration_loss,
        tag_name: str = "train_loss",
        **kwargs: Any,
    ) -> None:
        nested = [name for name, value in (experiment_param or {}).items() if isinstance(value, Mapping)]
        if nested:
            raise TypeError(f"experiment_param must be flat, but {nested} are dictionaries.")
        self.is_active = not (distributed.is_available() and distributed.is_initialized() and distributed.get_rank())
        self.evaluator = evaluator
        self.figures = [Path(figure) for figure in figures]
        self._pending: list[Metric] = []
        if not self.is_active:
            return
        explicit = tracking_uri is not None
        self._place = str(tracking_uri or os.environ.get("MLFLOW_TRACKING_URI"))
        if tracking_uri is None and not os.environ.get("MLFLOW_TRACKING_URI"):
            if output_dir is None:
                raise ValueError("give `output_dir` for a database in that folder, or the `tracking_uri` of a server.")
            folder = Path(output_dir).resolve()
            make_database(folder / "mlruns.db")
            self._place = str(folder / "mlruns.db")
            tracking_uri = path_to_sqlite_uri(self._place)
            # MONAI would take it from the URI, where a space has become %20
            kwargs.setdefault("artifact_location", path_to_uri(folder / "mlruns"))
        with without_environment() if explicit else nullcontext(), naming_database(self._place):
            super().__init__(
                tracking_uri=tracking_uri,
                experiment_name=experiment_name,
                run_name=run_name,
                experiment_param=dict(experiment_param or {}),
                artifacts=artifacts,
                iteration_log=iteration_log,
                output_transform=output_transform,
                tag_name=tag_name,
                **kwargs,
            )

    def attach(self, engine: Engine) -> None:
        """
        Args:
            engine: the trainer.
        """
        if not self.is_active:
            return
        on_exception(engine, self._stopped)
        super().attach(engine)
        # last instead, so that the artifacts which other handlers make at completion exist
        engine.remove_event_handler(self.complete, Events.COMPLETED)
        add_last(engine, Events.COMPLETED, self._finish)
        if self.evaluator is not None:
            self.evaluator.add_event_handler(Events.COMPLETED, self._validated, engine)

    @deferred_signals()
    def start(self, engine: Engine) -> None:
        """Create the run and log its parameters."""
        with naming_database(self._place):
            self._set_experiment()
            name = self.run_name or f"{time.strftime('%Y%m%d_%H%M%S')}_{uuid.uuid4().hex[:6]}"
            # MONAI's start would join a run that an earlier training left open
            self.cur_run = self.client.create_run(experiment_id=self.experiment.experiment_id, run_name=name)
            super().start(engine)

    def close(self) -> None:
        """End the run as FINISHED and release the database."""
        if self.is_active:
            super().close()

    def epoch_completed(self, engine: Engine) -> None:
        """Log the trainer's metrics and send what the iterations logged."""
        super().epoch_completed(engine)
        self._send()

    @deferred_signals()
    def _finish(self, engine: Engine) -> None:
        for path in self.artifacts:
            if path and not os.path.exists(path):
                engine.logger.warning(f"there is no artifact {path} to log")
        there = [figure for figure in self.figures if figure.exists() and figure not in self.artifacts]
        self.artifacts = [*self.artifacts, *there]
        self._send()
        with naming_database(self._place):
            self.complete()
            self.close()

    @deferred_signals()
    def _stopped(self, engine: Engine, exception: BaseException) -> None:
        if self.cur_run is not None:
            self._send()
            killed = isinstance(exception, (KeyboardInterrupt, SystemExit))
            self.client.set_terminated(self.cur_run.info.run_id, "KILLED" if killed else "FAILED")
            self.cur_run = None
        self.close()

    def _validated(self, evaluator: Engine, trainer: Engine) -> None:
        if self.cur_run is not None:
            self._log_metrics(evaluator.state.metrics, step=trainer.state.epoch)
            self._send()

    def _log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        # a request for each iteration would take longer than a small network's step
        now = int(time.time() * 1000)
        self._pending += [Metric(name, value, now, step or 0) for name, value in _scalars(metrics).items()]
        if len(self._pending) >= _METRICS_PER_REQUEST:
            self._send()

    @deferred_signals()
    def _send(self) -> None:
        pending, self._pending = self._pending, []
        with naming_database(self._place):
            for start in range(0, len(pending), _METRICS_PER_REQUEST):
                self.client.log_batch(self.cur_run.info.run_id, metrics=pending[start : start + _METRICS_PER_REQUEST])

    def _log_params(self, params: dict[str, Any]) -> None:
        items = [(_clean(name), value) for name, value in params.items()]
        for start in range(0, len(items), _PARAMETERS_PER_REQUEST):
            super()._log_params(dict(items[start : start + _PARAMETERS_PER_REQUEST]))


def _scalars(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Numbers by name; the elements of a small array get the suffixes _0, _1, ... in row-major order."""
    scalars = {}
    for name, value in flatten_dict(metrics).items():
        try:
            array = np.asarray(value.tolist() if isinstance(value, torch.Tensor) else value, dtype=float)
        except (TypeError, ValueError):
            continue
        if value is not None and array.size <= _LARGEST_ARRAY:
            for i, number in enumerate(array.ravel()):
                scalars[_clean(name if array.ndim == 0 else f"{name}_{i}")] = float(number)
    return scalars


def _clean(name: str) -> str:
    """A name with the characters that MLflow allows."""
    return re.sub(r"[^\w\-. :/]", "_", name)
