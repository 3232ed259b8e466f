# SPDX-License-Identifier: Apache-2.0
"""Train and evaluate one method, in its bundle."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from ignite.engine import Events
from monai.bundle import ConfigWorkflow
from monai.engines.utils import PrepareBatchExtraInput
from torch import nn

from monai_stochseg.benchmark.measure import PeakMemory, StepTimer, seconds_per_sample
from monai_stochseg.benchmark.methods import Method
from monai_stochseg.bundle import process_rank

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
FIRST = {"ged": 16, "hm_iou": 16, "ambiguity": 16}  # the others judge all samples
NUM_CLASSES = 2
SETTINGS, TRAINING, EVALUATION = "settings.json", "training.json", "evaluation.json"


def train(method: Method, folder: Path, overlays: Sequence[str], ids: Mapping[str, Any]) -> None:
    """
    Train a method, or go on with its training, unless it is done; ``training.json`` in its folder tells of it.

    Args:
        method: the method.
        folder: of its checkpoints.
        overlays: names of configuration files after ``train.json``.
        ids: overrides of every method.
    """
    settings = _training_settings(method, overlays, ids)
    if _is_done(folder / TRAINING, settings):
        return
    same = read(folder / SETTINGS) == settings
    resume = _of_first_process(same and (folder / "model_last.pt").is_file())
    if process_rank() == 0:
        (folder / TRAINING).unlink(missing_ok=True)
        if not resume:
            (folder / SETTINGS).unlink(missing_ok=True)
    workflow = _workflow(method, overlays, {**method.ids, **ids, "output_dir": str(folder), "resume": resume})
    network = workflow.parser.get_parsed_content("network")
    trainer = workflow.parser.get_parsed_content("train#trainer")
    # not before the checkpoints of other settings have been moved aside: a run that stops here resumes from none
    trainer.add_event_handler(Events.EPOCH_STARTED, lambda: _write(folder / SETTINGS, settings))
    timer, memory = StepTimer(trainer), PeakMemory()
    workflow.run()
    result = {
        "settings": settings,
        "finished": datetime.now(timezone.utc).isoformat(),
        "steps": trainer.state.iteration,
        "seconds_per_step": timer.seconds,
        "peak_memory": memory.bytes(trainer.state.device),
        "parameters": sum(p.numel() for p in network.parameters() if p.requires_grad),
    }
    _write(folder / TRAINING, result)


def evaluate(method: Method, folder: Path, trained: Path, overlays: Sequence[str], ids: Mapping[str, Any]) -> None:
    """
    Evaluate a method on the test patients, unless it is done; ``evaluation.json`` in its folder tells of it.

    Args:
        method: the method.
        folder: of its results.
        trained: folder of the checkpoint, another method's where that one's training is sampled.
        overlays: names of configuration files after ``train.json``.
        ids: overrides of every method.
    """
    training = _of_first_process(read(trained / TRAINING))["finished"]
    settings = _evaluation_settings(method, overlays, ids, training)
    if _is_done(folder / EVALUATION, settings):
        return
    given = {**method.ids, **ids, "validate#evaluator#checkpoint": str(trained / "model_best.pt")}
    workflow = _evaluation(method, folder, overlays, given)
    evaluator = workflow.parser.get_parsed_content("validate#evaluator")
    workflow.run()
    images = next(iter(evaluator.data_loader))["image"].to(evaluator.state.device)
    network = workflow.parser.get_parsed_content("network")
    network = network.module if isinstance(network, nn.parallel.DistributedDataParallel) else network
    seconds = seconds_per_sample(network, images.as_tensor())
    _write(folder / EVALUATION, {"settings": settings, "seconds_per_sample": seconds, **_values(evaluator)})


def evaluate_readers(method: Method, folder: Path, overlays: Sequence[str], ids: Mapping[str, Any]) -> None:
    """
    The readers of each test image, resampled: the floor of every method, in ``evaluation.json`` of the folder.

    Args:
        method: one whose evaluator, and so whose images, to take.
        folder: of the results.
        overlays: names of configuration files after ``train.json``.
        ids: overrides of every method.
    """
    settings = _as_json({**ids, "overlays": overlays, "metrics": METRICS, "first": FIRST, "bundle": method.folder.name})
    if _is_done(folder / EVALUATION, settings):
        return
    given = {
        **ids,
        "validate#evaluator#network": "$torch.nn.Identity()",
        "validate#evaluator#inferer": {"_target_": "monai_stochseg.inferers.RaterInferer", "num_classes": NUM_CLASSES},
        "validate#evaluator#checkpoint": None,
    }
    evaluator = _evaluation(method, folder, overlays, given).parser.get_parsed_content("validate#evaluator")
    evaluator.prepare_batch = PrepareBatchExtraInput("label")
    evaluator.run()
    _write(folder / EVALUATION, {"settings": settings, **_values(evaluator)})


def result(
    method: Method, folder: Path, trained: Path, overlays: Sequence[str], ids: Mapping[str, Any]
) -> dict[str, Any] | None:
    """What training and evaluation of a method with these settings told, None where they have not been done."""
    training, evaluation = read(trained / TRAINING), read(folder / EVALUATION)
    if training is None or evaluation is None:
        return None
    if training["settings"] != _training_settings(method.trained, overlays, ids):
        return None
    if evaluation["settings"] != _evaluation_settings(method, overlays, ids, training["finished"]):
        return None
    return {**training, **evaluation}


def read(path: Path) -> dict[str, Any] | None:
    """What a JSON file holds, None where it is not there."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _training_settings(method: Method, overlays: Sequence[str], ids: Mapping[str, Any]) -> dict[str, Any]:
    return _as_json({**method.ids, **ids, "overlays": overlays})


def _evaluation_settings(
    method: Method, overlays: Sequence[str], ids: Mapping[str, Any], training: str
) -> dict[str, Any]:
    return _as_json(
        {**method.ids, **ids, "overlays": overlays, "metrics": METRICS, "first": FIRST, "training": training}
    )


def _is_done(path: Path, settings: Mapping[str, Any]) -> bool:
    """Whether a result with these settings is there."""
    return _of_first_process((read(path) or {}).get("settings") == settings)


def _of_first_process(value: Any) -> Any:
    """The first process's value in all processes: what it has read of a folder that it writes to next."""
    values = [value]
    if dist.is_available() and dist.is_initialized():
        dist.broadcast_object_list(values)
    return values[0]


def _as_json(settings: Mapping[str, Any]) -> dict[str, Any]:
    """As they are read again: a tuple becomes a list."""
    content: dict[str, Any] = json.loads(json.dumps(settings))
    return content


def _evaluation(method: Method, folder: Path, overlays: Sequence[str], ids: Mapping[str, Any]) -> ConfigWorkflow:
    given = {
        **ids,
        "output_dir": str(folder),
        "eval_samples": NUM_SAMPLES,
        "validate#evaluator#metrics": list(METRICS),
        "validate#evaluator#first": FIRST,
    }
    return _workflow(method, [*overlays, "evaluate.json"], given)


def _workflow(method: Method, overlays: Sequence[str], ids: Mapping[str, Any]) -> ConfigWorkflow:
    files = [str(method.folder / name) for name in ("train.json", *overlays)]
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
