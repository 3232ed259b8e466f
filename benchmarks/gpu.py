# SPDX-License-Identifier: Apache-2.0
"""
A GPU in ten minutes: tests, losses, energy distance, sampling and trainings, in one table and a JSON.

``python benchmarks/gpu.py --out FOLDER`` runs the tests that are marked ``gpu``, measures the dear operations, and
trains each method on simulated LIDC and BraTS at the papers' sizes. Each row is measured in a process of its own: an
error is a row, in one line, the others go on, and the exit status is 1. On a CPU all is tiny, and the table says so.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from device_jobs import PARTS, Run, measure, measurements
from device_report import HEADER, Report, machine
from device_training import trainings

from monai_stochseg.benchmark import BenchmarkError
from monai_stochseg.bundle import select_device
from monai_stochseg.bundle.runtime import check_device

SECONDS, START, OTHERS = 6.0, 6.0, 200.0  # of a training, of its start, and of all else; the last two are guesses


def minutes(seconds: float) -> float:
    """How long the whole run takes on a GPU, by the guesses above."""
    return (len(trainings(tiny=False)) * (seconds + START) + OTHERS) / 60


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """What the command says."""
    how_long = f"the whole takes about {minutes(SECONDS):.0f} minutes, and {minutes(60):.0f} with --seconds 60"
    parser = argparse.ArgumentParser(description=f"{__doc__.strip().splitlines()[0]} On a GPU {how_long}.")
    parser.add_argument("--out", type=Path, default=Path("gpu_results"), help="folder of gpu.json, gpu.md and gpu.log")
    parser.add_argument("--seconds", type=float, help=f"of each training, default {SECONDS:g}, on a CPU 0.5")
    parser.add_argument("--device", help="such as cuda:0 or cpu, default: a GPU if there is one; tests take the first")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--methods", nargs="+", help="of the benchmark, that are trained; default: all")
    parser.add_argument("--sizes", choices=("tiny", "paper"), help="default: the papers' on a GPU, tiny on a CPU")
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> int:
    """The exit status: 1 where a row failed."""
    given = arguments(words)
    try:
        device = check_device(given.device or select_device())
        trainings(tiny=True, names=given.methods)
    except (BenchmarkError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    on_cpu = device.type == "cpu"
    sizes = given.sizes or ("tiny" if on_cpu else "paper")
    seconds = given.seconds if given.seconds is not None else 0.5 if on_cpu else SECONDS
    out = given.out.expanduser().absolute()
    out.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("MLFLOW_TRACKING_URI", f"sqlite:///{out / 'mlruns.db'}")  # its tables are made once
    report = Report(out, machine(device, sizes))
    print("\n".join([report.title(), "", *HEADER]), flush=True)
    for part in given.parts:
        for name, measurement in measurements(Run(device, sizes == "tiny", seconds, out), part, given.methods):
            report.add(part, name, measure(name, measurement, out))
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
