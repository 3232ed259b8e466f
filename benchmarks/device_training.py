# SPDX-License-Identifier: Apache-2.0
"""Trainings of the benchmark's methods that end after some seconds, and how fast they were."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from device_measure import synchronize
from ignite.engine import Engine, Events
from monai.bundle import ConfigWorkflow

from monai_stochseg.benchmark import Method, find_methods
from monai_stochseg.benchmark.measure import PeakMemory
from monai_stochseg.data import simulated_brain_folder
from monai_stochseg.data.lidc import simulated_lidc_folder

TASKS = ("lidc", "brats")
WARM_UP = 5  # steps that are not measured: cudnn tries its kernels, memory is allocated
MIB = 2**20
TINY: Mapping[str, Any] = {"channels": [4, 8, 8], "batch_size": 2, "images_per_epoch": 1000}
# A validation comes before the first step: one sample is enough of it. Epochs are long, so that none ends.
SHORT: Mapping[str, Any] = {"eval_samples": 1, "val_interval": 10**6, "calibration_checkpoint": None}
# No paper has these methods on brains: the network of train.json on volumes about as large as the SSN's patches.
BRAINS: Mapping[str, Any] = {"roi_size": [112, 112, 112], "batch_size": 2, "images_per_epoch": 1000}
PATCHES: Mapping[str, Any] = {"augmentation": None, "volume_augmentation": [], "images_per_epoch": 1000}
SPLIT: Mapping[str, Any] = {"split_fractions": [0.5, 0.25, 0.25]}


@dataclass(frozen=True)
class Training:
    """
    One method on one task.

    Args:
        method: the method.
        task: one of ``TASKS``.
        files: of its configuration.
        ids: what is overridden.
        setting: for the table.
    """

    method: Method
    task: str
    files: list[Path]
    ids: Mapping[str, Any]
    setting: str


def trainings(tiny: bool, names: Sequence[str] | None = None) -> list[Training]:
    """Each method of the benchmark on each task; of several that sample one training, it alone."""
    found = []
    for task in TASKS:
        trained = {method.trained.name: method.trained for method in find_methods(task, names)}
        found += [_training(method, task, tiny) for method in trained.values()]
    return found


def _training(method: Method, task: str, tiny: bool) -> Training:
    if tiny:
        size = {"roi_size": [16, 16, 16], **SPLIT} if task == "brats" else {}
        return Training(method, task, method.files(task), {**TINY, **size}, "tiny")
    # ssn_brats is the bundle of the brains for the methods of ssn_lidc
    own = method.folder.with_name(f"{method.folder.name.rsplit('_', 1)[0]}_{task}")
    if (own / "paper.json").is_file():
        changed = {**PATCHES, **SPLIT} if task == "brats" else {"images_per_epoch": 32000}
        return Training(method, task, [own / "train.json", own / "paper.json"], changed, f"the paper's, {own.name}")
    return Training(method, task, method.files(task), {**BRAINS, **SPLIT}, "train.json, 112^3, batch 2")


def make_data(task: str, folder: Path, tiny: bool) -> str:
    """Simulated patients, few: a step takes as long as one on many."""
    size = "tiny" if tiny else "paper"
    if task == "brats":
        return simulated_brain_folder(folder / f"brats_{size}", 4, [16 if tiny else 128] * 3)
    grid = {"spatial_size": 32, "spacing": 1.0} if tiny else {"spatial_size": 180, "spacing": 0.5}
    return simulated_lidc_folder(folder / f"lidc_{size}", num_patients=24, slices_per_nodule=2, **grid)


class Pace:
    """
    Ends a training after some seconds of measured steps, and tells their speed and memory.

    Args:
        trainer: attached to its events.
        length: seconds.
    """

    def __init__(self, trainer: Engine, length: float) -> None:
        self.length = length
        self.device = trainer.state.device
        self.steps, self.busy, self.total = 0, 0.0, 0.0
        self.peak = 0.0
        self._memory: PeakMemory | None = None
        self._begin = self._step = 0.0
        trainer.add_event_handler(Events.ITERATION_STARTED, self._started)
        trainer.add_event_handler(Events.ITERATION_COMPLETED, self._completed)

    def _started(self, trainer: Engine) -> None:
        synchronize(self.device)
        self._step = time.perf_counter()
        if trainer.state.iteration == WARM_UP + 1:
            self._begin = self._step
            self._memory = PeakMemory()
            if self.device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(self.device)  # it may be another GPU than the process's first

    def _completed(self, trainer: Engine) -> None:
        synchronize(self.device)
        if self._memory is None:
            return
        now = time.perf_counter()
        self.steps += 1
        self.busy += now - self._step
        self.total = now - self._begin
        if self.total >= self.length:
            self.peak = self._memory.bytes(self.device)
            trainer.terminate()

    @property
    def values(self) -> dict[str, Any]:
        return {
            "steps a second": self.steps / self.busy,
            "with loading": self.steps / self.total,
            "peak MiB": self.peak / MIB,
            "steps": self.steps,
        }


def train(training: Training, device: torch.device, length: float, data: str) -> dict[str, Any]:
    """Train for ``length`` seconds after the first steps."""
    with tempfile.TemporaryDirectory() as folder:
        workflow = ConfigWorkflow(
            [str(file) for file in training.files],
            meta_file=str(training.files[0].with_name("metadata.json")),
            logging_file=False,
            **{
                **{"bundle_root": str(training.files[0].parent), "output_dir": folder},
                **{"dataset_dir": data, "device": str(device), "run": "$@train#trainer.run()"},
                **{**SHORT, **training.method.ids, **training.ids},
            },
        )
        workflow.initialize()
        trainer = workflow.parser.get_parsed_content("train#trainer")
        pace = Pace(trainer, length)
        workflow.run()
        workflow.finalize()
    if pace.total < length or not pace.steps:
        raise RuntimeError(f"the training ended after {pace.steps} measured steps, before {length:g} s were over.")
    precision = "bfloat16" if trainer.amp else "float32"
    return {"setting": f"{training.setting}, {precision}", "values": pace.values}
