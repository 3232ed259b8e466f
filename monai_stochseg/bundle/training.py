# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import inspect
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from ignite.engine import Engine
from monai.data import Dataset
from monai.engines import Evaluator, SupervisedTrainer
from monai.engines.utils import default_prepare_batch
from monai.handlers import LrScheduleHandler, StatsHandler
from monai.inferers import Inferer
from monai.utils import is_scalar
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from monai_stochseg.bundle.checks import check_method
from monai_stochseg.bundle.loaders import training_loader
from monai_stochseg.bundle.options import Options
from monai_stochseg.bundle.run_config import RunConfig
from monai_stochseg.bundle.runtime import process_rank
from monai_stochseg.bundle.split import SPLIT_FILE
from monai_stochseg.bundle.version import package_version
from monai_stochseg.engines import AdversarialRefinementTrainer, StochasticEvaluator
from monai_stochseg.handlers import (
    AveragedWeights,
    EpochSeed,
    FolderLock,
    LossGuard,
    MLFlowTracker,
    OptimizerState,
    RefinementMonitor,
    SplitRecord,
    TrainingCheckpoint,
    TrainingProgress,
    TrainingValidation,
)
from monai_stochseg.handlers.iteration_loss import iteration_loss
from monai_stochseg.tasks import Task

_MOST_LOGGED = 16  # values of an array in a line of the log


class Adversary(NamedTuple):
    """
    The discriminator that a refinement is trained against, see
    :py:class:`monai_stochseg.engines.AdversarialRefinementTrainer`.

    Args:
        discriminator: on its device, and wrapped where training is distributed.
        optimizer: of the discriminator.
        lr_scheduler: stepped each epoch.
        options: further arguments of the trainer, such as ``num_samples``, ``d_on`` and ``d_off``.
    """

    discriminator: nn.Module
    optimizer: Optimizer
    lr_scheduler: LRScheduler
    options: Mapping[str, Any] | None = None


def make_trainer(
    task: Task,
    network: nn.Module,
    loss: nn.Module,
    optimizer: Optimizer,
    lr_scheduler: LRScheduler,
    dataset: Dataset,
    evaluator: Evaluator,
    options: Options,
    max_epochs: int,
    inferer: Inferer | None = None,
    handlers: Sequence[Any] = (),
    adversary: Adversary | None = None,
) -> SupervisedTrainer:
    """
    MONAI's trainer of any method on any task, with the handlers of every bundle: one training a folder, checkpoints by
    the key metric, seeds by iteration, MLflow, the loss guard, the schedule, validation, progress and statistics.

    Where the batch has ``rater_weights``, the loss gets them as its third argument. A network whose ``forward`` takes
    the label too, ``forward(x, y)``, is called with both.

    Args:
        task: what is asked.
        network: on its device, and wrapped where training is distributed.
        loss: takes the network's output and the batch's ``label``. Its buffers are kept in checkpoints.
        optimizer: of the network.
        lr_scheduler: stepped each epoch.
        dataset: cases with ``image`` and ``label``.
        evaluator: validates before training, every ``options.val_interval`` epochs and after the last.
        options: where and how to run.
        max_epochs: length of the training.
        inferer: MONAI's, of a training step. Default: the whole batch.
        handlers: the method's own handlers.
        adversary: of a refinement. Default: none, MONAI's trainer.

    Raises:
        ValueError: when ``max_epochs`` is below 1, or the network or the loss cannot be trained on this task.
    """
    if max_epochs < 1:
        raise ValueError(
            f"max_epochs must be at least 1, got {max_epochs}; a training in stages shares its max_epochs among them."
        )
    check_method(task, getattr(network, "module", network), loss)
    own: list[Any] = list(handlers)
    state: dict[str, Any] = {"loss": loss}
    engine: Callable[..., SupervisedTrainer] = partial(_trainer_with_rater_weights, _takes_label(network))
    if adversary is not None:
        own = [
            RefinementMonitor(),
            LossGuard(adversary.discriminator),
            LrScheduleHandler(adversary.lr_scheduler, print_lr=False),
            *own,
        ]
        state["discriminator"] = getattr(adversary.discriminator, "module", adversary.discriminator)
        state["discriminator_optimizer"] = OptimizerState(adversary.optimizer, adversary.lr_scheduler)
        engine = partial(
            AdversarialRefinementTrainer,
            discriminator=adversary.discriminator,
            discriminator_optimizer=adversary.optimizer,
            **(adversary.options or {}),
        )
    if options.averaging is not None:
        averaged = AveragedWeights(network, options.averaging)
        evaluator.network = averaged.network
        own = [*own, averaged]
    state |= {type(handler).__name__: handler for handler in own if hasattr(handler, "load_state_dict")}
    if task.draws_split:
        own = [SplitRecord(task.split(task.cases("all")), _split_file(options)), *own]
    return engine(
        max_epochs=max_epochs,
        train_data_loader=training_loader(
            dataset, options.batch_size, options.images_per_epoch, options.num_workers, options.seed
        ),
        network=network,
        optimizer=optimizer,
        loss_function=loss,
        inferer=inferer,
        train_handlers=_handlers(task, network, optimizer, lr_scheduler, evaluator, options, own, state),
        decollate=False,
        **options.engine,
    )


def _handlers(
    task: Task,
    network: nn.Module,
    optimizer: Optimizer,
    lr_scheduler: LRScheduler,
    evaluator: Evaluator,
    options: Options,
    own: Sequence[Any],
    state: Mapping[str, Any],
) -> list[Any]:
    """The handlers in the order that they need."""
    sampled = isinstance(evaluator, StochasticEvaluator)
    companions = [_split_file(options)] if task.draws_split else []
    figures = [os.path.join(options.output_dir, "samples.png")] if sampled else []
    checkpoint = TrainingCheckpoint(
        options.output_dir,
        network,
        optimizer,
        lr_scheduler,
        evaluator,
        mode="min" if sampled else "max",  # a distance, or Dice
        resume=options.resume,
        extra=state,
        companions=companions,
        signature=task.signature,
        best_network=next((handler.network for handler in own if isinstance(handler, AveragedWeights)), None),
    )
    return [
        FolderLock(options.lock_dir or options.output_dir),
        checkpoint,
        RunConfig(options.output_dir, {"simulated": task.simulated}),
        EpochSeed(options.seed),
        *own,
        MLFlowTracker(
            options.output_dir,
            tracking_uri=options.tracking_uri,
            experiment_name=options.experiment_name,
            evaluator=evaluator,
            experiment_param={
                **task.parameters,
                "batch_size": options.batch_size,
                **options.parameters,
                "seed": options.seed,
                **package_version(),
            },
            artifacts=companions,
            figures=figures,
        ),
        LossGuard(network),
        LrScheduleHandler(lr_scheduler, print_lr=False),
        TrainingValidation(options.val_interval, evaluator, checkpoint),
        TrainingProgress(),
        *statistics("train", tag_name="train_loss", output_transform=iteration_loss),
    ]


def statistics(name: str, **kwargs: Any) -> list[StatsHandler]:
    """MONAI's StatsHandler of the epochs, in the first process only, and each epoch's metrics on one line."""
    if process_rank() > 0:
        return []
    return [StatsHandler(name=name, iteration_log=False, epoch_print_logger=partial(_log_epoch, name), **kwargs)]


def _log_epoch(name: str, engine: Engine) -> None:
    """As MONAI logs an epoch, but an array on the same line; one of many values is left to the tables."""
    state, logger = engine.state, logging.getLogger(name)
    values = []
    for key, value in sorted(state.metrics.items()):
        if is_scalar(value):
            values.append(f"{key}: {value:.4f}")
        elif (
            isinstance(value, np.ndarray | torch.Tensor)
            and (array := torch.as_tensor(value).flatten()).numel() <= _MOST_LOGGED
        ):
            values.append(f"{key}: [{', '.join(f'{each:.4f}' for each in array.tolist())}]")
    if values:
        logger.info(f"Epoch[{state.epoch}] Metrics -- {' '.join(values)}")
    if getattr(state, "key_metric_name", None) is not None:
        logger.info(
            f"Key metric: {state.key_metric_name} best value: {state.best_metric} at epoch: {state.best_metric_epoch}"
        )


def _split_file(options: Options) -> str:
    return os.path.join(options.output_dir, SPLIT_FILE)


def _takes_label(network: nn.Module) -> bool:
    """Whether the network is called as ``forward(x, y)``, with the label for a posterior."""
    module: Any = getattr(network, "module", network)
    return "y" in inspect.signature(module.forward).parameters


def _trainer_with_rater_weights(takes_label: bool, *, loss_function: Callable, **kwargs: Any) -> SupervisedTrainer:
    # MONAI's trainer passes the loss one target: until then label and weights are a pair.
    return SupervisedTrainer(
        loss_function=partial(_apply, loss_function), prepare_batch=partial(_prepare, takes_label), **kwargs
    )


def _prepare(takes_label: bool, batch: Mapping[str, Any], device: Any, *args: Any, **kwargs: Any) -> tuple:
    """Image and target, and for a posterior the label and the raters' weights."""
    image, label = default_prepare_batch(batch, device, *args, **kwargs)
    weights = batch.get("rater_weights")
    given = {} if weights is None else {"rater_weights": weights.to(device)}
    target = (label, *given.values())
    return (image, target, (label,), given) if takes_label else (image, target)


def _apply(loss_function: Callable, pred: Any, target: tuple[torch.Tensor, ...]) -> torch.Tensor:
    value: torch.Tensor = loss_function(pred, *target)
    return value
