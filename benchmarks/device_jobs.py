# SPDX-License-Identifier: Apache-2.0
"""The rows of benchmarks/gpu.py, each measured in a process of its own."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from device_operations import OPERATIONS
from device_tests import gpu_tests
from device_training import Training, make_data, train, trainings

from monai_stochseg.benchmark.jobs import run_jobs

PARTS = ("tests", *OPERATIONS, "training")
Measurement = Callable[[], dict[str, Any]]


class Run(NamedTuple):
    """What all rows have in common: where, in which sizes, seconds of a training, and the folder of the results."""

    device: torch.device
    tiny: bool
    seconds: float
    out: Path


def measurements(run: Run, part: str, methods: Sequence[str] | None) -> Iterator[tuple[str, Measurement]]:
    """Name and measurement of each row of a part."""
    if part == "tests":
        yield "marked tests", partial(gpu_tests, run.out / "tests.xml")
    elif part == "training":
        for each in trainings(run.tiny, methods):
            yield f"{each.method.name}, {each.task}", partial(_train, each, run)
    else:
        for name, operation in OPERATIONS[part].items():
            yield name, partial(operation, run.device, run.tiny)


def measure(name: str, measurement: Measurement, folder: Path) -> dict[str, Any]:
    """
    What a measurement gives, or ``error``, in one line. It runs in a new process, for an error on a GPU spoils all that
    the same process does after it.

    Args:
        name: for the log.
        measurement: it can be pickled.
        folder: of the log, ``gpu.log``.
    """
    file, log = folder / "row.json", folder / "gpu.log"
    file.unlink(missing_ok=True)
    run_jobs({name: partial(_measure, measurement, file)}, log)
    if not file.is_file():
        return {"error": f"its process was ended from outside, or by a crash; see {log.name}"}
    result: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    file.unlink()
    return result


def _measure(measurement: Measurement, file: Path) -> None:
    try:
        result = measurement()
    except Exception as error:
        traceback.print_exc()
        result = {"error": _one_line(error)}
    file.write_text(json.dumps(result), encoding="utf-8")


def _one_line(error: BaseException) -> str:
    """The first line of the first cause: MONAI wraps whatever fails within a configuration."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:200]}"


def _train(training: Training, run: Run) -> dict[str, Any]:
    return train(training, run.device, run.seconds, make_data(training.task, run.out / "data", run.tiny))
