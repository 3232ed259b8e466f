# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
import os
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.networks.utils import get_state_dict
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from monai_stochseg.data import new_file, remove_partial
from monai_stochseg.data.dealt_batches import gather
from monai_stochseg.handlers.add_last import add_last
from monai_stochseg.handlers.exceptions import on_exception, stop_within
from monai_stochseg.handlers.load_weights import check_signature, load_state, read_checkpoint
from monai_stochseg.handlers.schedule_state import resume_schedule, schedule_state

__all__ = ["TrainingCheckpoint", "last_state"]

LAST_FILENAME = "model_last.pt"
_ENTRIES = ("trainer", "optimizer", "optimizer_class", "network", "extra")


def last_state(
    folder: str | os.PathLike[str], resume: bool | str | os.PathLike[str], filename: str = LAST_FILENAME
) -> Path | None:
    """
    The file that a training resumes from, None where it begins.

    Args:
        folder: of the training.
        resume: True for the last state in ``folder``, False, or a path. The strings of a command line, ``"true"`` and
            ``"False"``, are taken as the booleans.
        filename: of the last state.
    """
    if str(resume).lower() in ("true", "false"):
        resume = str(resume).lower() == "true"
    if resume is True:
        return Path(folder) / filename
    return Path(resume) if resume else None


class TrainingCheckpoint:
    """
    Handler of a trainer that keeps its last state and its best network, and resumes from the last state.

    Two files, each replaced as a whole (never half-written) and loadable with ``torch.load(weights_only=True)``:

    - ``last_filename``: network, optimizer, position of the schedule, iteration, the evaluator's best metric, scaler
      of AMP and ``extra``; written every ``interval`` epochs, at the end, on Ctrl-C, on SIGTERM, and on an exception
      between two iterations. It is always the state after a whole iteration: within one, weights and optimizer are
      torn, so that Ctrl-C and SIGTERM wait for its end (see :func:`on_exception`), and what cannot wait, such as an
      exception, leaves the file as it is.
    - ``best_filename``: the network (entry ``"network"``) with its ``"epoch"``, ``"metric"`` and ``"value"``, written
      when the evaluator's metric improves. A NaN never improves.

    A network with a non-finite weight is not written, and neither is the state on a ``FloatingPointError`` (see
    :class:`LossGuard`): the files keep what was good. Files that a fresh run finds in ``save_dir`` become
    ``model_best.previous.pt`` and ``model_last.previous.pt``. Where ``resume`` is ``True`` and there is no last state
    yet, the run is a fresh one, and a warning says so: a queue that starts a job again passes the same command.

    Resuming restores everything at the start of the run; the value to beat is that in the best file. Lengths and
    hyperparameters are those of the configuration: ``max_epochs``, ``epoch_length``, learning rate, weight decay, the
    schedule and its length. With :class:`EpochSeed`, a resumed run continues bit for bit as if it had not been
    interrupted (on a GPU, as far as its kernels are deterministic), also within an epoch: it runs the iterations that
    the epoch lacks. A validation that was interrupted is repeated by :class:`TrainingValidation`.

    After a validation of the trainer the evaluator's ``best_metric`` is that of the best file, if it is of the key
    metric: the untrained network, which a run may validate at its start, is never the best.

    In distributed training rank 0 writes and all ranks load; the saved network is the one inside
    ``DistributedDataParallel``. Put this handler first in the list: its loading comes before whatever others start
    with, and ``StatsHandler`` hides exceptions from handlers behind it. ``LrScheduleHandler`` belongs before
    ``ValidationHandler``, so that a stop during a validation leaves the schedule where the epoch ended.

    Args:
        save_dir: folder of the two files, made when absent.
        network: the trained network, wrapped or not.
        optimizer: its optimizer.
        lr_scheduler: a scheduler of PyTorch, any but one that is stepped with explicit epochs.
        evaluator: the engine that validates during training; without it no best network is kept.
        best_metric: name of the metric among ``evaluator.state.metrics``, default its key metric.
        mode: ``"min"`` when a smaller metric is better (energy distance), ``"max"`` when a larger one is (Dice).
        resume: ``True`` to resume from ``last_filename`` in ``save_dir``, or the path of another run's last state. The
            strings of a command line, ``"true"`` and ``"False"``, are taken as the booleans.
        interval: epochs from one writing of the last state to the next.
        last_filename: name of the file with the last state.
        best_filename: name of the file with the best network.
        extra: more objects with ``state_dict`` and ``load_state_dict`` to keep in the last state, by name.
        companions: other files of a run, such as its split, which are moved aside along with its checkpoints when a
            new training begins in their folder.
        best_network: whose weights are kept as the best, such as an average of the trained ones; default: ``network``.
        signature: what the network is trained for, written into both files, and compared where a training resumes; see
            :py:attr:`monai_stochseg.tasks.Task.signature`.

    Raises:
        ValueError: When ``mode``, ``interval`` or ``best_metric`` is not usable.
        TypeError: When ``lr_scheduler`` is not a scheduler of PyTorch.
    """

    def __init__(
        self,
        save_dir: str | os.PathLike[str],
        network: nn.Module,
        optimizer: Optimizer,
        lr_scheduler: LRScheduler | None = None,
        evaluator: Engine | None = None,
        best_metric: str | None = None,
        mode: str = "min",
        resume: bool | str | os.PathLike[str] = False,
        interval: int = 1,
        last_filename: str = LAST_FILENAME,
        best_filename: str = "model_best.pt",
        extra: Mapping[str, Any] | None = None,
        companions: Sequence[str | os.PathLike[str]] = (),
        signature: Mapping[str, Any] | None = None,
        best_network: nn.Module | None = None,
    ) -> None:
        if mode not in ("min", "max"):
            raise ValueError(f'mode must be "min" or "max" but is {mode!r}.')
        if interval < 1:
            raise ValueError(f"interval must be at least 1 epoch but is {interval}.")
        if best_metric is not None and evaluator is None:
            raise ValueError(f"best_metric={best_metric!r} needs the evaluator that computes it: give `evaluator`.")
        if lr_scheduler is not None and not isinstance(lr_scheduler, LRScheduler):
            raise TypeError(f"lr_scheduler must be a torch LRScheduler but is {type(lr_scheduler).__name__}.")
        self.last_path = Path(save_dir) / last_filename
        self.best_path = Path(save_dir) / best_filename
        self.network = network
        self.best_network = network if best_network is None else best_network
        self.optimizer = optimizer
        self.lr_scheduler = lr_scheduler
        self.evaluator = evaluator
        self.best_metric = best_metric
        self.mode = mode
        self.resume_path = last_state(save_dir, resume, last_filename)
        self.may_begin = str(resume).lower() == "true"  # and no path, whose file must be there
        self.interval = interval
        self.extra = dict(extra or {})
        self.companions = [Path(path) for path in companions]
        self.signature = dict(signature or {})
        self.best_value: float | None = None
        self.best_epoch = -1
        #: Whether the training was stopped within a validation, which is to be repeated.
        self.validation_pending = False
        # engine.state.iteration counts an iteration when it starts
        self._completed_iterations = 0
        self._is_whole = True
        self._saved: tuple[int, bool] | None = None

    def attach(self, engine: Engine) -> None:
        """
        Args:
            engine: the trainer.
        """
        on_exception(engine, self._stopped)
        engine.add_event_handler(Events.STARTED, self._start)
        add_last(engine, Events.ITERATION_STARTED, self._begin)
        add_last(engine, Events.ITERATION_COMPLETED, self._count)
        # last, so that the state holds this epoch's step of the schedule and this epoch's validation
        add_last(engine, Events.EPOCH_COMPLETED, self._end_epoch)
        add_last(engine, Events.EPOCH_COMPLETED(every=self.interval), self.save)
        add_last(engine, Events.COMPLETED, self._save_if_new)
        if self.evaluator is not None:
            stop_within(engine, self.evaluator)
            self.evaluator.add_event_handler(Events.STARTED, self._begin_validation, engine)
            self.evaluator.add_event_handler(Events.COMPLETED, self._validated, engine)

    def save(self, engine: Engine) -> None:
        """Write the last state of ``engine``, on rank 0 and when the network is finite."""
        if engine.state.rank != 0 or self._completed_iterations == 0:
            return
        state = {
            "network": get_state_dict(self.network),
            "optimizer": self.optimizer.state_dict(),
            "optimizer_class": type(self.optimizer).__name__,
            "trainer": {
                "iteration": self._completed_iterations,
                "epoch_length": engine.state.epoch_length,
                "validation_pending": self.validation_pending,
            },
            "extra": {name: get_state_dict(obj) for name, obj in self.extra.items()},
            "signature": self.signature,
        }
        if self.lr_scheduler is not None:
            state["lr_scheduler"] = schedule_state(self.lr_scheduler)
        if self.evaluator is not None:
            state["evaluator"] = {
                "best_metric": float(self.evaluator.state.best_metric),
                "best_metric_epoch": self.evaluator.state.best_metric_epoch,
            }
        if engine.scaler is not None:
            state["scaler"] = engine.scaler.state_dict()
        if self._write(engine, state, self.last_path):
            self._saved = self._position

    @property
    def _position(self) -> tuple[int, bool]:
        return self._completed_iterations, self.validation_pending

    def _save_if_new(self, engine: Engine) -> None:
        if self._saved != self._position:
            self.save(engine)

    def _begin(self) -> None:
        self._is_whole = False

    def _count(self, engine: Engine) -> None:
        self._completed_iterations = engine.state.iteration
        # after the last iteration of an epoch the schedule has not stepped yet
        self._is_whole = engine.state.iteration % engine.state.epoch_length != 0

    def _end_epoch(self) -> None:
        self._is_whole = True

    def _begin_validation(self, evaluator: Engine, trainer: Engine) -> None:
        # LrScheduleHandler is before ValidationHandler, and a validation changes nothing
        self._is_whole = self.validation_pending = True

    def _stopped(self, engine: Engine, exception: BaseException) -> None:
        if engine.state.rank != 0:
            return
        if isinstance(exception, FloatingPointError):
            engine.logger.error(f"{self.last_path} keeps its last finite state")
            return
        if self._is_whole:
            self._save_if_new(engine)
        if self._saved is not None:
            engine.logger.warning(
                f"Stopped at epoch {engine.state.epoch}: {self.last_path} has the state after iteration "
                f"{self._saved[0]}, from which --resume True goes on"
            )

    def _validated(self, evaluator: Engine, trainer: Engine) -> None:
        self._keep_best(evaluator, trainer)
        self.validation_pending = False
        if trainer.state.rank == 0 and evaluator.state.key_metric_name == self._metric_name():
            evaluator.state.best_metric = -1 if self.best_value is None else self.best_value
            evaluator.state.best_metric_epoch = self.best_epoch

    def _keep_best(self, evaluator: Engine, trainer: Engine) -> None:
        if trainer.state.rank != 0 or trainer.state.iteration == 0:
            return
        name = self._metric_name()
        if name not in evaluator.state.metrics:
            raise ValueError(f"best_metric={name!r} is not one of the metrics {sorted(evaluator.state.metrics)}.")
        value, epoch = float(evaluator.state.metrics[name]), trainer.state.epoch
        if math.isnan(value) or (self.best_value is not None and not self._better(value, self.best_value)):
            return
        described = {"metric": name, "mode": self.mode, "value": value, "epoch": epoch, "signature": self.signature}
        if self._write(trainer, {"network": get_state_dict(self.best_network), **described}, self.best_path):
            self.best_value, self.best_epoch = value, epoch
            trainer.logger.info(f"New best {name} {value:.6g} at epoch {epoch}: {self.best_path}")

    def _metric_name(self) -> str:
        name = self.best_metric or (self.evaluator and self.evaluator.state.key_metric_name)
        if name is None:
            raise ValueError("the evaluator has no key metric: give it one, or name `best_metric`.")
        return str(name)

    def _better(self, value: float, best: float) -> bool:
        return value < best if self.mode == "min" else value > best

    def _write(self, engine: Engine, state: dict[str, Any], path: Path) -> bool:
        for name, value in state["network"].items():
            if isinstance(value, torch.Tensor) and not torch.isfinite(value).all():
                engine.logger.error(f"{path} is not written, for {name} of the network is not finite")
                return False
        with new_file(path) as temporary:
            torch.save(state, temporary)
        return True

    def _start(self, engine: Engine) -> None:
        if engine.state.epoch_length is None:
            raise ValueError("the length of an epoch is not known: give the trainer an `epoch_length`.")
        resume_path = self.resume_path
        if self.may_begin and not self.last_path.exists():
            engine.logger.warning(f"resume: there is no {self.last_path} yet, the training starts anew")
            resume_path = None
        if resume_path is not None:
            self._load(engine, resume_path)
        self._check_all_resume(engine)
        if engine.state.rank != 0:
            return
        folder = self.last_path.parent
        folder.mkdir(parents=True, exist_ok=True)
        files = [self.last_path, self.best_path]
        for path in files:
            remove_partial(path)
        if resume_path is None or resume_path.resolve().parent != folder.resolve():
            for path in [*files, *self.companions] if any(file.exists() for file in files) else []:
                self._keep_previous(path, engine)
            self._saved = None  # there, and not in this folder
        self._read_best(engine)

    def _check_all_resume(self, engine: Engine) -> None:
        """One process that begins where others resume would train with other weights, or wait for ever."""
        places = gather((engine.state.iteration, socket.gethostname()))
        if len({iteration for iteration, _ in places}) > 1:
            found = ", ".join(f"rank {i} on {host}: {iteration}" for i, (iteration, host) in enumerate(places))
            raise RuntimeError(
                f"the processes do not resume from the same iteration ({found}): {self.last_path.parent} must be one "
                "folder that all machines see."
            )

    def _read_best(self, engine: Engine) -> None:
        if self.evaluator is None or not self.best_path.exists():
            return
        best = read_checkpoint(self.best_path)
        if missing := [key for key in ("metric", "mode", "value", "epoch") if key not in best]:
            raise ValueError(
                f"{self.best_path} has no {' and '.join(missing)}: it was not written by a training here, and the next "
                "best would replace it; move it away."
            )
        if (best.get("metric"), best.get("mode")) != (self._metric_name(), self.mode):
            self._keep_previous(self.best_path, engine)
            return
        engine.logger.info(f"Best so far: {best['metric']} {best['value']:.6g} at epoch {best['epoch']}")
        self.best_value, self.best_epoch = float(best["value"]), int(best["epoch"])

    def _keep_previous(self, path: Path, engine: Engine) -> None:
        if path.exists():
            previous = path.with_suffix(f".previous{path.suffix}")
            os.replace(path, previous)
            engine.logger.info(f"{path} of other training is now {previous}")

    def _load(self, engine: Engine, path: Path) -> None:
        state = read_checkpoint(path)
        if missing := [key for key in _ENTRIES if key not in state]:
            raise ValueError(f"{path} has no {' and '.join(missing)} to resume: give a {self.last_path.name}.")
        check_signature(state.get("signature"), self.signature, path)
        iteration, epoch_length = state["trainer"]["iteration"], state["trainer"]["epoch_length"]
        epoch = iteration // epoch_length
        if epoch > engine.state.max_epochs:
            raise ValueError(f"max_epochs={engine.state.max_epochs} is less than the {epoch} epochs of {path}.")
        if epoch_length != engine.state.epoch_length:
            iteration = epoch * engine.state.epoch_length
            engine.logger.warning(f"epoch_length was {epoch_length}: resuming after the whole epoch {epoch}")

        load_state(self.network, state["network"], path)
        self._load_optimizer(state, path)
        for name, obj in self.extra.items():
            if name not in state["extra"]:
                raise ValueError(f"{path} has no extra object {name!r}, but {sorted(state['extra'])}.")
            obj.load_state_dict(state["extra"][name])
        if self.lr_scheduler is not None:
            if "lr_scheduler" not in state:
                raise ValueError(f"{path} was trained without lr_scheduler: resume it without one.")
            resume_schedule(self.lr_scheduler, state["lr_scheduler"])
        if self.evaluator is not None:
            for name, value in state.get("evaluator", {}).items():
                setattr(self.evaluator.state, name, value)
        if engine.scaler is not None and state.get("scaler"):  # empty when the scaler was disabled
            engine.scaler.load_state_dict(state["scaler"])
        engine.state.iteration = self._completed_iterations = iteration
        engine.state.epoch = epoch
        self.validation_pending = bool(state["trainer"].get("validation_pending"))
        self._saved = (iteration, self.validation_pending)
        engine.logger.info(f"Resumed {path} at epoch {epoch} of {engine.state.max_epochs}")

    def _load_optimizer(self, state: dict[str, Any], path: Path) -> None:
        groups = self.optimizer.state_dict()["param_groups"]
        saved = state["optimizer_class"], [len(group["params"]) for group in state["optimizer"]["param_groups"]]
        current = type(self.optimizer).__name__, [len(group["params"]) for group in groups]
        if saved != current:
            raise ValueError(
                f"{path} was trained with the optimizer and parameters {saved}, not {current}: use the same."
            )
        # moments from the checkpoint, hyperparameters (learning rate, weight decay) from the configuration
        self.optimizer.load_state_dict({"state": state["optimizer"]["state"], "param_groups": groups})
