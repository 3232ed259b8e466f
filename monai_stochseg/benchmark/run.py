# SPDX-License-Identifier: Apache-2.0
"""Train and evaluate one method, in its bundle."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from ignite.engine import Events
from monai.bundle import ConfigParser, ConfigWorkflow
from torch import nn

from monai_stochseg.benchmark.floor import resampling
from monai_stochseg.benchmark.measure import PeakMemory, StepTimer, sampling_time
from monai_stochseg.benchmark.methods import Method
from monai_stochseg.benchmark.settings import find_setting
from monai_stochseg.bundle.runtime import process_rank
from monai_stochseg.data import csv_text, new_file
from monai_stochseg.handlers.case_table import SUMMARY_ROWS
from monai_stochseg.tasks import Task

NUM_SAMPLES = 100
SETTINGS_FILE, TRAINING, EVALUATION = "settings.json", "training.json", "evaluation.json"


def make_task(task: str, method: Method, overlays: Sequence[str], ids: Mapping[str, Any]) -> Task:
    """The task of a configuration, with its data."""
    files = [str(file) for file in (*method.files(task), *(method.folder / name for name in overlays))]
    parser = ConfigParser()
    parser.read_config(files)
    parser.read_meta({})
    parser.update({"bundle_root": str(method.folder), **ids, "output_dir": ""})
    made: Task = parser.get_parsed_content("task")
    return made


def train(task: str, method: Method, folder: Path, overlays: Sequence[str], ids: Mapping[str, Any]) -> None:
    """
    Train a method, or go on with its training, unless it is done; ``training.json`` in its folder describes it.

    Args:
        task: one of the benchmark's.
        method: the method.
        folder: of its checkpoints.
        overlays: names of the bundle's configuration files after the task's.
        ids: overrides of every method.
    """
    settings = _training_settings(task, method, overlays, ids)
    if _is_done(folder / TRAINING, settings):
        return
    same = read(folder / SETTINGS_FILE) == settings
    resume = _of_first_process(same and (folder / "model_last.pt").is_file())
    if process_rank() == 0:
        (folder / TRAINING).unlink(missing_ok=True)
        if not resume:
            (folder / SETTINGS_FILE).unlink(missing_ok=True)
    workflow = _workflow(task, method, overlays, {**method.ids, **ids, "output_dir": str(folder), "resume": resume})
    network = workflow.parser.get_parsed_content("network")
    trainer = workflow.parser.get_parsed_content("train#trainer")
    # not before the checkpoints of other settings have been moved aside: a run that stops here resumes from none
    trainer.add_event_handler(Events.EPOCH_STARTED, lambda: _write(folder / SETTINGS_FILE, settings))
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


def evaluate(
    task: str, method: Method, folder: Path, trained: Path, overlays: Sequence[str], ids: Mapping[str, Any]
) -> None:
    """
    Evaluate a method on the test patients, unless it is done; ``evaluation.json`` in its folder describes it.

    Args:
        task: one of the benchmark's.
        method: the method.
        folder: of its results.
        trained: folder of the checkpoint, another method's where that one's training is sampled.
        overlays: names of the bundle's configuration files after the task's.
        ids: overrides of every method.
    """
    training = _of_first_process(read(trained / TRAINING))["finished"]
    settings = _evaluation_settings(task, method, overlays, ids, training)
    if _is_done(folder / EVALUATION, settings):
        return
    given = {**method.ids, **ids, "checkpoint": str(trained / "model_best.pt")}
    workflow = _evaluation(task, method, folder, trained, overlays, given)
    evaluator = workflow.parser.get_parsed_content("validate#evaluator")
    workflow.run()
    if process_rank() > 0:  # the first process wrote the table, and another one may have no case
        return
    images = next(iter(evaluator.data_loader))["image"].to(evaluator.state.device)
    network = workflow.parser.get_parsed_content("network")
    network = network.module if isinstance(network, nn.parallel.DistributedDataParallel) else network
    seconds = sampling_time(network, images.as_tensor())
    _write(
        folder / EVALUATION,
        {
            "settings": settings,
            "seconds_per_image": seconds.image,
            "seconds_per_further_sample": seconds.sample,
            "cases": _cases(folder, evaluator),
            **_values(evaluator),
        },
    )


def evaluate_readers(task: str, method: Method, folder: Path, overlays: Sequence[str], ids: Mapping[str, Any]) -> None:
    """
    The floor of every method, in ``evaluation.json`` of the folder: where the truth is known draws from it, else the
    readers of each test image, resampled.

    Args:
        task: one of the benchmark's.
        method: one whose evaluator, and so whose images, to take.
        folder: of the results.
        overlays: names of the bundle's configuration files after the task's.
        ids: overrides of every method.
    """
    setting = find_setting(task)
    settings = _as_json(
        {**ids, "overlays": overlays, "metrics": setting.metrics, "first": setting.first, "bundle": method.folder.name}
    )
    if _is_done(folder / EVALUATION, settings):
        return
    given = {**ids, "network": "$torch.nn.Identity()", "checkpoint": None}
    workflow = _evaluation(task, method, folder, folder, overlays, given)
    evaluator = resampling(workflow.parser.get_parsed_content("validate#evaluator"), workflow.parser)
    evaluator.run()
    _write(folder / EVALUATION, {"settings": settings, **_values(evaluator)})


def result(
    task: str, method: Method, folder: Path, trained: Path, overlays: Sequence[str], ids: Mapping[str, Any]
) -> dict[str, Any] | None:
    """What training and evaluation of a method with these settings gave, None where they have not been done."""
    training, evaluation = read(trained / TRAINING), read(folder / EVALUATION)
    if training is None or evaluation is None:
        return None
    if training["settings"] != _training_settings(task, method.trained, overlays, ids):
        return None
    if evaluation["settings"] != _evaluation_settings(task, method, overlays, ids, training["finished"]):
        return None
    return {**training, **evaluation}


def read(path: Path) -> dict[str, Any] | None:
    """What a JSON file holds, None where it is not there."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _training_settings(task: str, method: Method, overlays: Sequence[str], ids: Mapping[str, Any]) -> dict[str, Any]:
    return _as_json({**method.ids, **ids, "task": task, "overlays": overlays})


def _evaluation_settings(
    task: str, method: Method, overlays: Sequence[str], ids: Mapping[str, Any], training: str
) -> dict[str, Any]:
    judged = {"metrics": find_setting(task).metrics, "first": find_setting(task).first, "training": training}
    return _as_json({**_training_settings(task, method, overlays, ids), **judged})


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


def _evaluation(
    task: str, method: Method, folder: Path, trained: Path, overlays: Sequence[str], ids: Mapping[str, Any]
) -> ConfigWorkflow:
    setting = find_setting(task)
    given = {
        "part": "test",
        "run": "$@validate#evaluator.run()",
        **ids,
        "output_dir": str(folder),
        "eval_samples": NUM_SAMPLES,
        "validate#evaluator#metrics": list(setting.metrics),
        "validate#evaluator#first": {name: n for name, n in setting.first.items() if name in setting.metrics},
    }
    if (trained / "split.json").is_file():
        given["split_file"] = str(trained / "split.json")
    return _workflow(task, method, overlays, given)


def _workflow(task: str, method: Method, overlays: Sequence[str], ids: Mapping[str, Any]) -> ConfigWorkflow:
    files = [str(file) for file in (*method.files(task), *(method.folder / name for name in overlays))]
    workflow = ConfigWorkflow(  # the group of processes outlives a method
        files,
        meta_file=str(method.folder / "metadata.json"),
        logging_file=False,
        finalize=[],
        **{"bundle_root": str(method.folder), **ids},
    )
    workflow.initialize()
    return workflow


def _cases(folder: Path, evaluator: Any) -> dict[str, list]:
    """Each case's patient and metrics, as the evaluation's table has them."""
    names = {case.get("name", case["patient"]): case["patient"] for case in evaluator.data_loader.dataset.data}
    patients = {csv_text(name): patient for name, patient in names.items()}
    with (folder / "evaluation_test.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["case"] not in SUMMARY_ROWS]
    columns = [name for name in ("ged", "hm_iou") if rows and name in rows[0]]
    return {
        "patient": [patients[row["case"].removesuffix(".png")] for row in rows],
        **{name: [float(row[name]) for row in rows] for name in columns},
    }


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
    with new_file(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
