# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from ignite.engine import Engine
from monai.data import Dataset
from monai.engines import SupervisedTrainer
from monai.engines.utils import PrepareBatchExtraInput, default_prepare_batch
from monai.handlers import LrScheduleHandler, StatsHandler, ValidationHandler
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from monai_stochseg.bundle.loaders import training_loader
from monai_stochseg.bundle.runtime import has_bfloat16, process_rank
from monai_stochseg.handlers import EpochSeed, LossGuard, MLFlowTracker, TrainingCheckpoint, TrainingProgress
from monai_stochseg.handlers.iteration_loss import iteration_loss


def training_handlers(
    network: nn.Module,
    optimizer: Optimizer,
    lr_scheduler: LRScheduler,
    evaluator: Engine,
    output_dir: str,
    experiment_name: str,
    parameters: Mapping[str, Any],
    seed: int = 0,
    val_interval: int = 1,
    resume: bool | str = False,
    tracking_uri: str | None = None,
    loss: nn.Module | None = None,
    mode: str = "min",
    companions: Sequence[str | os.PathLike] = (),
    extra: Sequence[Any] = (),
    figure: str | None = "samples.png",
    state: Mapping[str, Any] | None = None,
) -> list[Any]:
    """
    The handlers of every bundle's trainer, in the order that they need: checkpoints by the key metric, seeds by
    epoch, the bundle's own, whose metrics the MLflow run logs, the loss guard, the schedule, validation, progress and
    statistics.

    Args:
        network: the trained network.
        optimizer: its optimizer.
        lr_scheduler: stepped each epoch.
        evaluator: validates before training and every ``val_interval`` epochs.
        output_dir: folder of checkpoints, MLflow's database and figures.
        experiment_name: MLflow's experiment.
        parameters: what the run was made with, for MLflow.
        seed: of the epochs.
        val_interval: epochs between validations.
        resume: see :py:class:`monai_stochseg.handlers.TrainingCheckpoint`.
        tracking_uri: an MLflow server or database; default: one in ``output_dir``.
        loss: a loss whose buffers belong to the state of the training, such as GECO's multiplier.
        mode: whether the key metric is the better the less, ``"min"``, or the more, ``"max"``.
        companions: other files that belong to the run, kept with its checkpoints and logged to MLflow.
        extra: the bundle's own handlers.
        figure: file in ``output_dir`` that the evaluator draws, logged to MLflow; None where it draws none.
        state: further objects of the training's state by name, with ``state_dict`` and ``load_state_dict``.
    """
    return [
        TrainingCheckpoint(
            output_dir,
            network,
            optimizer,
            lr_scheduler,
            evaluator,
            mode=mode,
            resume=resume,
            extra={**({} if loss is None else {"loss": loss}), **(state or {})},
            companions=companions,
        ),
        EpochSeed(seed),
        *extra,
        MLFlowTracker(
            output_dir,
            tracking_uri=tracking_uri,
            experiment_name=experiment_name,
            evaluator=evaluator,
            experiment_param=parameters,
            artifacts=[*([] if figure is None else [os.path.join(output_dir, figure)]), *companions],
        ),
        LossGuard(network),
        LrScheduleHandler(lr_scheduler, print_lr=False),
        ValidationHandler(interval=val_interval, validator=evaluator, exec_at_start=True),
        TrainingProgress(),
        *statistics("train", tag_name="train_loss", output_transform=iteration_loss),
    ]


def make_trainer(
    network: nn.Module,
    loss: nn.Module,
    optimizer: Optimizer,
    lr_scheduler: LRScheduler,
    evaluator: Engine,
    dataset: Dataset,
    output_dir: str,
    device: torch.device,
    max_epochs: int,
    batch_size: int,
    experiment_name: str,
    parameters: Mapping[str, Any],
    images_per_epoch: int | None = None,
    val_interval: int = 1,
    seed: int = 0,
    resume: bool | str = False,
    num_workers: int = 0,
    network_takes_label: bool = False,
    amp: bool | None = None,
    tracking_uri: str | None = None,
    mode: str = "min",
    companions: Sequence[str | os.PathLike] = (),
    handlers: Sequence[Any] = (),
    figure: str | None = "samples.png",
    state: Mapping[str, Any] | None = None,
    trainer_class: Callable[..., SupervisedTrainer] = SupervisedTrainer,
) -> SupervisedTrainer:
    """
    MONAI's trainer with the handlers of every bundle.

    Args:
        network: on its device, and wrapped where training is distributed.
        loss: takes the network's output and the batch's ``label``. Its buffers are kept in checkpoints.
        optimizer: of the network.
        lr_scheduler: stepped each epoch.
        evaluator: validates before training and every ``val_interval`` epochs.
        dataset: cases with ``image`` and ``label``.
        output_dir: folder of checkpoints, MLflow's database and the figure.
        device: where the network is.
        max_epochs: length of the training.
        batch_size: cases a step, in each process.
        experiment_name: MLflow's experiment.
        parameters: what the run was made with, for MLflow; the seed is added.
        images_per_epoch: cases an epoch; default: each once.
        val_interval: epochs between validations.
        seed: of order, augmentation and noise.
        resume: see :py:class:`monai_stochseg.handlers.TrainingCheckpoint`.
        num_workers: processes that load.
        network_takes_label: whether the network is called with the label too, for a posterior.
        amp: bfloat16 autocast; default: on a GPU that has it.
        tracking_uri: an MLflow server or database; default: one in ``output_dir``.
        mode: see :py:func:`training_handlers`, as ``companions``.
        companions: other files of the run.
        handlers: further handlers.
        figure: see :py:func:`training_handlers`, as ``state``.
        trainer_class: what is made of all this: MONAI's SupervisedTrainer, or one that takes its arguments.
    """
    return trainer_class(
        device=device,
        max_epochs=max_epochs,
        train_data_loader=training_loader(dataset, batch_size, images_per_epoch, num_workers, seed),
        network=network,
        optimizer=optimizer,
        loss_function=loss,
        prepare_batch=PrepareBatchExtraInput("label") if network_takes_label else default_prepare_batch,
        train_handlers=training_handlers(
            network,
            optimizer,
            lr_scheduler,
            evaluator,
            output_dir,
            experiment_name,
            {**parameters, "seed": seed},
            seed=seed,
            val_interval=val_interval,
            resume=resume,
            tracking_uri=tracking_uri,
            loss=loss,
            mode=mode,
            companions=companions,
            extra=handlers,
            figure=figure,
            state=state,
        ),
        decollate=False,
        amp=has_bfloat16(device) if amp is None else amp,
        amp_kwargs={"dtype": torch.bfloat16},
    )


def statistics(name: str, **kwargs: Any) -> list[StatsHandler]:
    """MONAI's StatsHandler of the epochs, in the first process only."""
    return [] if process_rank() > 0 else [StatsHandler(name=name, iteration_log=False, **kwargs)]
