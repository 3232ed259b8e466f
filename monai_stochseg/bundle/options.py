# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from monai_stochseg.bundle.paths import check_path
from monai_stochseg.bundle.runtime import has_bfloat16


@dataclass
class Options:
    """
    Where and how a bundle runs; neither the task nor the method depends on it.

    Args:
        output_dir: folder of checkpoints, MLflow's database, tables and figures.
        device: where networks run, such as ``cpu`` or ``cuda:0``.
        seed: of order, augmentation and noise.
        resume: see :py:class:`monai_stochseg.handlers.TrainingCheckpoint`.
        batch_size: cases a step, in each process.
        images_per_epoch: cases an epoch. Default: each once.
        val_interval: epochs between validations.
        num_workers: processes that load.
        cache_rate: share of the cases kept in memory.
        amp: bfloat16 autocast. Default: on a GPU that has it.
        averaging: decay of an exponential average of the weights, which is validated and kept as the best, see
            :py:class:`monai_stochseg.handlers.AveragedWeights`. Default: none.
        experiment_name: MLflow's experiment.
        parameters: what the method was made with, for MLflow.
        tracking_uri: an MLflow server or database. Default: one in ``output_dir``.
        lock_dir: folder that no second training may run in meanwhile, such as that of all stages of a training.
            Default: ``output_dir``.

    Raises:
        ValueError: when a configuration has changed the name of ``output_dir``, see
            :py:func:`monai_stochseg.bundle.paths.check_path`.
    """

    output_dir: str
    device: torch.device | str = "cpu"
    seed: int = 0
    resume: bool | str = False
    batch_size: int = 1
    images_per_epoch: int | None = None
    val_interval: int = 1
    num_workers: int = 0
    cache_rate: float = 1.0
    amp: bool | None = None
    averaging: float | None = None
    experiment_name: str = "monai_stochseg"
    parameters: Mapping[str, Any] = field(default_factory=dict)
    tracking_uri: str | None = None
    lock_dir: str | None = None

    def __post_init__(self) -> None:
        self.output_dir = check_path("output_dir", self.output_dir)
        self.device = torch.device(self.device)

    @property
    def engine(self) -> dict[str, Any]:
        """The arguments of MONAI's engines that say where and in which precision a network runs."""
        amp = has_bfloat16(self.device) if self.amp is None else self.amp
        return {"device": self.device, "amp": amp, "amp_kwargs": {"dtype": torch.bfloat16}}
