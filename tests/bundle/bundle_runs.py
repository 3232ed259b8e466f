# SPDX-License-Identifier: Apache-2.0
"""How the tests run a bundle: as a command, or in this process."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow
from mlflow.entities import Run
from monai.bundle import ConfigWorkflow

BUNDLES = Path(__file__).resolve().parents[2] / "bundles"
NAMES = sorted(path.parent.name for path in BUNDLES.glob("*/train.json"))
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]


def config_files(bundle: str, *overlays: str, base: str = "train") -> list[str]:
    """A bundle's configuration with overlays beside it, or ``evaluate`` and ``tasks/lidc`` of all bundles."""
    common = ["evaluate", "temperature", *(f"tasks/{path.stem}" for path in BUNDLES.glob("tasks/*.json"))]
    return [str((BUNDLES if name in common else BUNDLES / bundle) / f"{name}.json") for name in (base, *overlays)]


def command(bundle: str, *overlays: str, **override: object) -> list[str]:
    options = [f"--{name}={value}" for name, value in override.items()]
    return ["-m", "monai.bundle", "run", "--config_file", repr(config_files(bundle, *overlays)), *options]


def run_command(args: list[str], cwd: Path) -> subprocess.CompletedProcess:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *args], cwd=cwd, env=environment, capture_output=True, text=True, timeout=300
    )


def make_workflow(
    bundle: str = "", *overlays: str, base: str = "train", files: list[str] | None = None, **override: object
) -> ConfigWorkflow:
    """A workflow that is initialised and has not run, of a bundle or of any configuration files."""
    chosen = config_files(bundle, *overlays, base=base) if files is None else files
    workflow = ConfigWorkflow(chosen, logging_file=False, **override)
    workflow.initialize()
    return workflow


def run_workflow(
    bundle: str = "", *overlays: str, base: str = "train", files: list[str] | None = None, **override: object
) -> ConfigWorkflow:
    """As ``monai.bundle run``, in this process."""
    workflow = make_workflow(bundle, *overlays, base=base, files=files, **override)
    workflow.run()
    workflow.finalize()
    return workflow


@contextmanager
def first_cause() -> Iterator[None]:
    """Raise what MONAI's configuration wraps, which the bundle prints as the last line."""
    try:
        yield
    except Exception as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        raise cause from None


def table(file: str | Path) -> dict[str, dict[str, str]]:
    """The rows of an evaluation by case."""
    with Path(file).open() as lines:
        return {row["case"]: row for row in csv.DictReader(lines)}


def mlflow_runs(output: str | Path, experiment: str) -> list[Run]:
    client = mlflow.MlflowClient(f"sqlite:///{output}/mlruns.db")
    return client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
