# SPDX-License-Identifier: Apache-2.0
"""A training of a few milliseconds, with everything that a resumed one must restore."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from ignite.metrics import Metric
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.handlers import LrScheduleHandler, ValidationHandler
from monai.transforms import Compose, RandFlipd, RandGaussianNoised
from torch import nn

from monai_stochseg.handlers import EpochSeed, TrainingCheckpoint

EPOCH_LENGTH = 3


class ScriptedMetric(Metric):
    """A metric of given values, one a validation."""

    def __init__(self, values: Iterable[Any]) -> None:
        self.values = iter(values)
        super().__init__()

    def reset(self) -> None:
        pass

    def update(self, output: Any) -> None:
        pass

    def compute(self) -> Any:
        return next(self.values)


@dataclass
class Training:
    trainer: SupervisedTrainer
    evaluator: SupervisedEvaluator
    network: nn.Module
    checkpoint: TrainingCheckpoint

    def run(self) -> Training:
        self.trainer.run()
        return self


def make_network(channels: int = 4) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, channels, 3, padding=1),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Conv2d(channels, 2, 1),
    )


def make_dataset(size: int = 6) -> Dataset:
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(size, 1, 8, 8, generator=generator)
    transform = Compose([RandFlipd("image", prob=0.5), RandGaussianNoised("image", prob=0.5)])
    return Dataset([{"image": image, "label": (image > 0.5).float()} for image in images], transform)


def cross_entropy(logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    return nn.functional.cross_entropy(torch.as_tensor(logits), torch.as_tensor(label)[:, 0].long())


def make_trainer(
    handlers: Sequence[Any] = (),
    max_epochs: int = 2,
    network: nn.Module | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    loss: Callable = cross_entropy,
    num_workers: int = 0,
    epoch_length: int | None = None,
    dataset: Dataset | None = None,
) -> SupervisedTrainer:
    network = network or make_network()
    return SupervisedTrainer(
        device="cpu",
        max_epochs=max_epochs,
        train_data_loader=DataLoader(dataset or make_dataset(), batch_size=2, shuffle=True, num_workers=num_workers),
        network=network,
        optimizer=optimizer or torch.optim.Adam(network.parameters(), lr=0.01),
        loss_function=loss,
        epoch_length=epoch_length,
        train_handlers=list(handlers),
    )


def make_evaluator(network: nn.Module, values: Iterable[Any]) -> SupervisedEvaluator:
    return SupervisedEvaluator(
        device="cpu",
        val_data_loader=DataLoader(make_dataset(1)),
        network=network,
        key_val_metric={"ged": ScriptedMetric(values)},
    )


def make_training(
    folder: Path,
    max_epochs: int = 2,
    values: Iterable[Any] = (0.5,) * 10,
    network: nn.Module | None = None,
    optimizer_class: type[torch.optim.Optimizer] = torch.optim.Adam,
    schedule_epochs: int | None = None,
    handlers: Sequence[Any] = (),
    first: Sequence[Any] = (),
    **kwargs: Any,
) -> Training:
    """A trainer with a linear schedule down to 0, an evaluator and their checkpoint in ``folder``."""
    trainer_kwargs = {k: kwargs.pop(k) for k in ("loss", "num_workers", "epoch_length", "dataset") if k in kwargs}
    network = network or make_network()
    optimizer = optimizer_class(network.parameters(), lr=0.01)
    scheduler = torch.optim.lr_scheduler.PolynomialLR(optimizer, total_iters=schedule_epochs or max_epochs)
    evaluator = make_evaluator(network, values)
    checkpoint = TrainingCheckpoint(folder, network, optimizer, scheduler, evaluator, **kwargs)
    trainer = make_trainer(
        [*first, checkpoint, EpochSeed(0), *handlers, LrScheduleHandler(scheduler), ValidationHandler(1, evaluator)],
        max_epochs=max_epochs,
        network=network,
        optimizer=optimizer,
        **trainer_kwargs,
    )
    return Training(trainer, evaluator, network, checkpoint)
