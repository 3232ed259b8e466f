# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from ignite.engine import Engine
from monai.handlers import LrScheduleHandler, StatsHandler, ValidationHandler
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from monai_stochseg.bundle.runtime import process_rank
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
    companions: Sequence[str | os.PathLike] = (),
    extra: Sequence[Any] = (),
) -> list[Any]:
    """
    The handlers of every bundle's trainer, in the order that they need: checkpoints by the least key metric, seeds by
    epoch, an MLflow run, the bundle's own, the loss guard, the schedule, validation, progress and statistics.

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
        companions: other files that belong to the run, kept with its checkpoints and logged to MLflow.
        extra: the bundle's own handlers.
    """
    return [
        TrainingCheckpoint(
            output_dir,
            network,
            optimizer,
            lr_scheduler,
            evaluator,
            resume=resume,
            extra={} if loss is None else {"loss": loss},
            companions=companions,
        ),
        EpochSeed(seed),
        MLFlowTracker(
            output_dir,
            tracking_uri=tracking_uri,
            experiment_name=experiment_name,
            evaluator=evaluator,
            experiment_param=parameters,
            artifacts=[os.path.join(output_dir, "samples.png"), *companions],
        ),
        *extra,
        LossGuard(network),
        LrScheduleHandler(lr_scheduler, print_lr=False),
        ValidationHandler(interval=val_interval, validator=evaluator, exec_at_start=True),
        TrainingProgress(),
        *statistics("train", tag_name="train_loss", output_transform=iteration_loss),
    ]


def statistics(name: str, **kwargs: Any) -> list[StatsHandler]:
    """MONAI's StatsHandler of the epochs, in the first process only."""
    return [] if process_rank() > 0 else [StatsHandler(name=name, iteration_log=False, **kwargs)]
