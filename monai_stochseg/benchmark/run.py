# SPDX-License-Identifier: Apache-2.0
"""Train and evaluate one method, in its bundle."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigWorkflow
from monai.engines.utils import PrepareBatchExtraInput
from torch import nn

from monai_stochseg.benchmark.measure import PeakMemory, StepTimer, seconds_per_sample
from monai_stochseg.benchmark.methods import Method
from monai_stochseg.bundle import lidc_evaluator, process_rank
from monai_stochseg.inferers import RaterInferer

logger = logging.getLogger(__name__)

NUM_SAMPLES = 100
METRICS = (
    "ged",
    "ged_curve",
    "hm_iou",
    "diversity",
    "rater_diversity",
    "dice",
    "dice_nonempty",
    "ece",
    "ambiguity",
    "diversity_correlation",
    "empty_correlation",
)
FIRST = {"ged": 16, "hm_iou": 16}  # the others judge all samples
TRAINING, EVALUATION = "training.json", "evaluation.json"


def train(method: Method, folder: Path, overlays: Sequence[str], ids: Mapping[str, Any]) -> None:
    """
    Train a method, or go on with its training, unless it is done; ``training.json`` in its folder tells of it.

    Args:
        method: the method.
        folder: of its checkpoints.
        overlays: names of configuration files after ``train.json``.
        ids: overrides of every method.
    """
    settings = {**ids, **method.ids, "overlays": list(overlays)}
    done = read(folder / TRAINING)
    if done is not None and done["settings"] == settings:
        return
    started = read(folder / "settings.json") == settings
    resume = started and (folder / "model_last.pt").is_file()
    _write(folder / "settings.json", settings)
    workflow = _workflow(method, overlays, {**ids, **method.ids, "output_dir": str(folder), "resume": resume})
    network = workflow.parser.get_parsed_content("network")
    trainer = workflow.parser.get_parsed_content("train#trainer")
    timer, memory = StepTimer(trainer), PeakMemory(trainer.state.device)
    workflow.run()
    result = {
        "settings": settings,
        "steps": trainer.state.iteration,
        "seconds_per_step": timer.seconds,
        "peak_memory": memory.bytes,
        "parameters": sum(p.numel() for p in network.parameters() if p.requires_grad),
    }
    _write(folder / TRAINING, result)


def evaluate(
    method: Method, folder: Path, trained: Path, overlays: Sequence[str], ids: Mapping[str, Any], metrics: Sequence[str]
) -> None:
    """
    Evaluate a method on the test patients, unless it is done; ``evaluation.json`` in its folder tells of it.

    Args:
        method: the method.
        folder: of its results.
        trained: folder of the checkpoint, another method's where that one's training is sampled.
        overlays: names of configuration files after ``train.json``.
        ids: overrides of every method.
        metrics: names, see :py:func:`monai_stochseg.bundle.sample_metrics`.
    """
    settings = {**ids, **method.ids, "overlays": list(overlays), "metrics": list(metrics)}
    done = read(folder / EVALUATION)
    newest = (trained / TRAINING).stat().st_mtime
    if done is not None and done["settings"] == settings and (folder / EVALUATION).stat().st_mtime >= newest:
        return
    given = {
        **ids,
        **method.ids,
        "output_dir": str(folder),
        "eval_samples": NUM_SAMPLES,
        "validate#evaluator#checkpoint": str(trained / "model_best.pt"),
        "validate#evaluator#metrics": list(metrics),
        "validate#evaluator#first": FIRST,
    }
    workflow = _workflow(method, [*overlays, "evaluate.json"], given)
    evaluator = workflow.parser.get_parsed_content("validate#evaluator")
    workflow.run()
    images = next(iter(evaluator.data_loader))["image"].to(evaluator.state.device)
    network = workflow.parser.get_parsed_content("network")
    network = network.module if isinstance(network, nn.parallel.DistributedDataParallel) else network
    seconds = seconds_per_sample(network, images.as_tensor())
    _write(folder / EVALUATION, {"settings": settings, "seconds_per_sample": seconds, **_values(evaluator)})


def evaluate_readers(folder: Path, ids: Mapping[str, Any], metrics: Sequence[str]) -> None:
    """
    The readers of each test image, resampled: the floor of every method, in ``evaluation.json`` of the folder.

    Args:
        folder: of the results.
        ids: overrides of every method, of which the data set and its split are used.
        metrics: names, see :py:func:`monai_stochseg.bundle.sample_metrics`.
    """
    evaluator = lidc_evaluator(
        nn.Identity(),
        ids["dataset_dir"],
        ids["manifest"],
        str(folder),
        torch.device("cpu"),
        part="test",
        num_samples=NUM_SAMPLES,
        metrics=metrics,
        first=FIRST,
        inferer=RaterInferer(num_classes=2),
    )
    evaluator.prepare_batch = PrepareBatchExtraInput("label")
    evaluator.run()
    _write(folder / EVALUATION, {"settings": dict(ids), **_values(evaluator)})


def read(path: Path) -> dict[str, Any] | None:
    """What a JSON file holds, None where it is not there."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _workflow(method: Method, overlays: Sequence[str], ids: Mapping[str, Any]) -> ConfigWorkflow:
    files = [str(method.folder / name) for name in ("train.json", *overlays) if (method.folder / name).is_file()]
    workflow = ConfigWorkflow(files, logging_file=False, finalize=[], **ids)  # the group of processes outlives a method
    workflow.initialize()
    return workflow


def _values(evaluator: Any) -> dict[str, Any]:
    """Metrics of an evaluation by name, without MONAI's prefix."""
    values = {}
    for name, value in evaluator.state.metrics.items():
        values[name.removeprefix("val_")] = value.tolist() if isinstance(value, torch.Tensor) else value
    return values


def _write(path: Path, content: Mapping[str, Any]) -> None:
    """Whole or not at all, by the first process."""
    if process_rank() > 0:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    temporary.replace(path)
