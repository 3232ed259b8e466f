# SPDX-License-Identifier: Apache-2.0
"""How the tests run a bundle: as a command, or in this process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from monai.bundle import ConfigWorkflow

TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]


def command(bundle: Path, *overlays: str, **override: object) -> list[str]:
    files = [str(bundle / name) for name in ("train.json", *overlays)]
    options = [f"--{name}={value}" for name, value in override.items()]
    return ["-m", "monai.bundle", "run", "--config_file", repr(files), *options]


def run_command(args: list[str], cwd: Path) -> subprocess.CompletedProcess:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *args], cwd=cwd, env=environment, capture_output=True, text=True, timeout=300
    )


def make_workflow(bundle: Path, *overlays: str, **override: object) -> ConfigWorkflow:
    """A workflow that is initialised and has not run."""
    files = [str(bundle / name) for name in ("train.json", *overlays)]
    workflow = ConfigWorkflow(files, logging_file=False, **override)
    workflow.initialize()
    return workflow


def run_workflow(bundle: Path, *overlays: str, **override: object) -> ConfigWorkflow:
    """As `monai.bundle run`, in this process."""
    workflow = make_workflow(bundle, *overlays, **override)
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
