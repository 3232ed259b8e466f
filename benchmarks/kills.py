# SPDX-License-Identifier: Apache-2.0
"""
Kill a tiny training at random moments, resume it, and compare it with one that was never stopped.

``python benchmarks/kills.py --out FOLDER --number 50`` runs, for ``ssn_brats`` and for ``car_lidc`` with its two
stages, 50 trainings that get a SIGKILL and 50 that get a SIGTERM at a random moment, one in ten before the first
iteration and the others at a random place of the curve (a clock would miss it on a machine that is busy), each then
resumed with ``resume=True``. A trial fails when the resumed run does, when the weights of a checkpoint differ in
one bit from those of the whole run, or when a loss or a validation does, whether it was before or after the stop.

Trainings are forked from this process, which has imported everything and made the data: the seconds of an import, in
which nothing is written, are left out. MLflow's database is there from the start; ``--database False`` lets each
training make its own, which takes most of its time.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import fire
import torch
from ignite.engine import Events
from monai.bundle import ConfigWorkflow

from monai_stochseg.data import simulated_brain_folder
from monai_stochseg.data.lidc.crops import LIDCCrop
from monai_stochseg.data.lidc.crops_folder import write_crops
from monai_stochseg.data.lidc.manifests import load_manifest
from monai_stochseg.handlers.mlflow_database import make_database

BUNDLES = Path(__file__).resolve().parents[1] / "bundles"
CURVE = "curve.txt"
EARLY = 0.1  # of the moments are before the first iteration
RUN = {"device": "cpu", "val_interval": 2, "batch_size": 2, "eval_samples": 2, "num_samples": 2, "channels": [2, 4]}
IDS: dict[str, dict[str, Any]] = {
    "ssn_brats": {
        **{"max_epochs": 5, "images_per_epoch": 6, "rank": 2, "strides": [2], "feature_channels": 4},
        **{"patch_size": [8] * 3, "roi_size": [16] * 3, "patches_per_image": 1, "split_fractions": [0.5, 0.25, 0.25]},
    },
    "car_lidc": {"max_epochs": 8, "images_per_epoch": 6, "d_on": 1, "d_off": 1},
}
STAGES = {"ssn_brats": {"": "train#trainer"}, "car_lidc": {"calibration": "calibration#trainer", "": "train#trainer"}}


def make_data(bundle: str, folder: Path) -> str:
    """A few cases."""
    if bundle == "ssn_brats":
        return simulated_brain_folder(folder / "brains", 4, (16, 16, 16))
    generator = torch.Generator().manual_seed(0)
    crops = []
    for patient in (patient for patients in load_manifest("kohl").parts.values() for patient in patients[:4]):
        label = torch.rand(4, 8, 8, generator=generator) > 0.5
        image = torch.randn(8, 8, generator=generator).mul(100).sub(500)
        readers = torch.ones(4, dtype=torch.bool)
        crops.append(LIDCCrop(patient, patient, image.numpy(), label.numpy(), readers.numpy(), (1.0, 1.0)))
    write_crops(crops, folder / "crops", {"simulated": True})
    return str(folder / "crops")


def train(bundle: str, ids: Mapping[str, Any]) -> None:
    """A training that notes its curve, a line an iteration and a validation."""
    workflow = ConfigWorkflow(str(BUNDLES / bundle / "train.json"), logging_file=False, **ids)
    workflow.initialize()
    curve = os.open(Path(ids["output_dir"], CURVE), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for stage, trainer_id in STAGES[bundle].items():
        trainer = workflow.parser.get_parsed_content(trainer_id)
        evaluator = workflow.parser.get_parsed_content(f"{stage}#evaluator" if stage else "validate#evaluator")
        _note(
            curve,
            f"{stage} loss",
            trainer,
            Events.ITERATION_COMPLETED,
            lambda state: state.output["loss"].item(),
        )
        _note(curve, f"{stage} metrics", evaluator, Events.COMPLETED, lambda state: repr(state.metrics))
    workflow.run()
    workflow.finalize()


def _note(curve: int, name: str, engine: Any, event: Any, value: Callable[[Any], Any]) -> None:
    def write(engine: Any) -> None:
        position = engine.state.iteration if event is Events.ITERATION_COMPLETED else engine.state.epoch
        os.write(curve, (json.dumps([f"{name} {position}", value(engine.state)]) + "\n").encode())

    engine.add_event_handler(event, write)


def fork(bundle: str, ids: Mapping[str, Any]) -> int:
    """The process of a training; its output goes to a file."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        log = os.open(Path(ids["output_dir"], "log.txt"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        for number in (1, 2):
            os.dup2(log, number)
        train(bundle, ids)
        status = 0
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def wait(child: int) -> int:
    """Its exit code, negative after a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def end(folder: Path) -> dict[str, Any]:
    """Curve and weights of a training; a step that was taken twice must have had the same value."""
    found: dict[str, Any] = {}
    for line in (folder / CURVE).read_text().splitlines():
        name, value = json.loads(line)
        if found.setdefault(name, value) != value:
            found[name] = f"{found[name]} and then {value}"
    for path in sorted(folder.rglob("model_*.pt")):
        if "previous" in path.name:  # of a training that was killed before its first state, and began again
            continue
        state = torch.load(path, weights_only=True)
        for key, tensor in state["network"].items():
            found[f"{path.relative_to(folder)} {key}"] = tensor.tolist()
        if "optimizer" in state:
            found[f"{path.relative_to(folder)} optimizer"] = repr(state["optimizer"]["state"])
    return found


class Pace(NamedTuple):
    """How long a training takes, by its curve: the seconds to its first line, and those of each."""

    setup: float
    line: float
    lines: int


def measure(bundle: str, folder: Path, ids: Mapping[str, Any]) -> Pace:
    """Run a training to its end."""
    child, start = fork(bundle, prepare(folder, ids)), time.monotonic()
    wait_for_lines(child, folder, 1)
    setup = time.monotonic() - start
    if status := wait(child):
        raise RuntimeError(f"{bundle} does not train: exit code {status}, see {folder / 'log.txt'}.")
    lines = count_lines(folder)
    return Pace(setup, (time.monotonic() - start - setup) / lines, lines)


def count_lines(folder: Path) -> int:
    """Of the curve so far."""
    path = folder / CURVE
    return path.read_bytes().count(b"\n") if path.is_file() else 0


def wait_for_lines(child: int, folder: Path, number: int) -> None:
    """Until the curve has as many lines, or the process ends."""
    while count_lines(folder) < number and os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        time.sleep(0.001)


def prepare(folder: Path, ids: Mapping[str, Any]) -> dict[str, Any]:
    """The folder of a training, and its ids."""
    folder.mkdir(parents=True)
    if "database" in ids:
        for place in (folder, folder / "calibration"):
            place.mkdir(exist_ok=True)
            shutil.copy(ids["database"], place / "mlruns.db")
    return {**{key: value for key, value in ids.items() if key != "database"}, "output_dir": str(folder)}


def trial(
    bundle: str, folder: Path, ids: Mapping[str, Any], number: int, pace: Pace, moment: float
) -> tuple[str, str | None]:
    """Stop a training, at a line of its curve or before the first, and resume it; how it ended, and what is wrong."""
    given = prepare(folder, ids)
    child = fork(bundle, given)
    if moment < 0:
        time.sleep(-moment * pace.setup)
    else:
        wait_for_lines(child, folder, int(moment))
        time.sleep(moment % 1 * pace.line)
    os.kill(child, number)
    status = wait(child)
    begun = "within the training" if count_lines(folder) else "before its first iteration"
    how = "after its end" if status == 0 else f"{begun} with exit code {status}"
    resumed = wait(fork(bundle, {**given, "resume": True}))
    return how, None if resumed == 0 else f"the resumed run has exit code {resumed}"


def kills(
    bundle: str, out: str | Path, number: int = 50, signals: tuple[str, ...] = ("SIGKILL", "SIGTERM"), **options: Any
) -> dict[str, Counter[str]]:
    """
    Run the trials of one bundle.

    Args:
        bundle: one of ``IDS``.
        out: an empty folder.
        number: of trials with each signal.
        signals: their names.
        options: ``seed`` of the moments; ``database``, whether MLflow's is there already.

    Returns:
        Counts by signal: of what the process ended with, of trainings that are ``equal`` at the end, and of each that
        is not what is wrong.
    """
    folder = Path(out).absolute() / bundle
    ids = {**RUN, **IDS[bundle], "dataset_dir": make_data(bundle, folder)}
    if options.get("database", True):
        make_database(folder / "mlruns.db")
        ids["database"] = str(folder / "mlruns.db")
    pace = measure(bundle, folder / "whole", ids)
    expected = end(folder / "whole")
    moments = random.Random(options.get("seed", 0))
    counts: dict[str, Counter[str]] = {}
    for name, i in itertools.product(signals, range(number)):
        place = folder / f"{name}_{i}"
        early = moments.random() < EARLY
        moment = -moments.random() if early else moments.uniform(0, pace.lines)
        how, wrong = trial(bundle, place, ids, signal.Signals[name], pace, moment)
        if wrong is None:
            found = end(place)
            different = [key for key in {**expected, **found} if expected.get(key) != found.get(key)]
            wrong = f"{different[0]} differs" if different else None
        counts.setdefault(name, Counter()).update([f"ended: {how}", wrong or "equal"])
        if wrong is None:
            shutil.rmtree(place)
        else:
            print(f"{bundle} {name} {i} ({how}): {wrong}, see {place}", flush=True)
    return counts


def main(
    out: str, number: int = 50, bundles: tuple[str, ...] = tuple(IDS), seed: int = 0, database: bool = True
) -> None:
    """
    Run the trials and print their counts.

    Args:
        out: a folder that is not there yet.
        number: of trials with each signal and bundle.
        bundles: of ``ssn_brats`` and ``car_lidc``.
        seed: of the moments.
        database: whether MLflow's database is there already.
    """
    torch.set_num_threads(1)
    for bundle in (bundles,) if isinstance(bundles, str) else bundles:
        for name, counts in kills(bundle, out, number, seed=seed, database=database).items():
            found = ", ".join(f"{count} {what}" for what, count in sorted(counts.items()))
            print(f"{bundle} {name}: {found}", flush=True)


if __name__ == "__main__":
    fire.Fire(main)
