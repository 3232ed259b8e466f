# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import logging
import multiprocessing
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from monai_stochseg.benchmark.methods import READERS, find_methods
from monai_stochseg.benchmark.report import write_report
from monai_stochseg.benchmark.run import EVALUATION, METRICS, TRAINING, evaluate, evaluate_readers, read, train
from monai_stochseg.bundle import process_rank, select_device, start
from monai_stochseg.data import load_manifest, simulated_lidc_folder
from monai_stochseg.data.lidc import read_parameters

logger = logging.getLogger(__name__)

# Minutes on two CPU cores: small crops, thin networks, the same number of steps for each method.
SMALL = {
    "max_epochs": 10,
    "val_interval": 2,
    "images_per_epoch": 768,
    "batch_size": 16,
    "channels": [16, 32, 48, 64],
    "norm": "BATCH",
}
SMALL_DATA = {"num_patients": 300, "spatial_size": 48, "spacing": 1.0, "slices_per_nodule": 2}
FULL_DATA = {"num_patients": None, "spatial_size": 180, "spacing": 0.5, "slices_per_nodule": None}


class BenchmarkError(RuntimeError):
    """Some methods failed, and the table holds the others."""


def benchmark(
    task: str = "lidc",
    out: str = "results",
    methods: Sequence[str] | None = None,
    full: bool = False,
    dataset_dir: str | None = None,
    manifest: str | None = "kohl",
    seed: int = 0,
    ids: Mapping[str, Any] | None = None,
) -> str:
    """
    Train and evaluate every method from one seed on one data set, and write one table.

    The small setting takes minutes on two CPU cores. --full is the papers' size, by the bundles' paper.json, for a GPU
    or, under torchrun, several. What is done already in the folder is kept: a run that stopped goes on where it was.

    Args:
        task: lidc.
        out: the folder of benchmark.csv, benchmark.md, benchmark.png and a folder a method.
        methods: names of methods or of bundles; default: all bundles of the task.
        full: the papers' sizes.
        dataset_dir: a folder of crops, see docs/lidc.md; default: real readings with a simulated CT, made on first use.
        manifest: the split by patient; None for the one that came with the data.
        seed: of weights, order, augmentation and noise.
        ids: further ids of the bundles' configurations, the same for each method.

    Returns:
        The table.

    Raises:
        BenchmarkError: When a method failed, after the others are done.

    """
    chosen = find_methods(task, [methods] if isinstance(methods, str) else methods)
    folder = Path(out).expanduser().absolute()
    if dataset_dir is None:
        data = folder / ("data_full" if full else "data")
        dataset_dir = simulated_lidc_folder(data, **(FULL_DATA if full else SMALL_DATA), seed=seed)
    given = {
        **({} if full else SMALL),
        "dataset_dir": str(Path(dataset_dir).expanduser().absolute()),
        "manifest": manifest,
        "seed": seed,
        **(ids or {}),
    }
    overlays = ["paper.json"] if full else []
    distributed = "WORLD_SIZE" in os.environ and int(os.environ["WORLD_SIZE"]) > 1
    if distributed:
        overlays.append("multi_gpu_train.json")
        start(select_device(), distributed=True)

    jobs: dict[str, Callable[[], None]] = {}
    for method in chosen:
        trained = folder / method.trained.name
        jobs[f"{method.trained.name}: training"] = partial(train, method.trained, trained, overlays, given)
        jobs[f"{method.name}: evaluation"] = partial(
            evaluate, method, folder / method.name, trained, overlays, given, METRICS
        )
    jobs[READERS] = partial(evaluate_readers, folder / READERS, given, METRICS)
    failed = [name for name, job in jobs.items() if not _run(name, job, distributed)]

    rows: dict[str, dict[str, Any]] = {}
    for name, trained_name in [*((method.name, method.trained.name) for method in chosen), (READERS, READERS)]:
        result = read(folder / name / EVALUATION)
        if result is not None:
            rows[name] = {**(read(folder / trained_name / TRAINING) or {}), **result}
    table = write_report(rows, folder, _title(task, full, given), READERS)
    if failed:
        raise BenchmarkError(f"these failed, their errors are above: {', '.join(failed)}; the table holds the others.")
    return table


def _run(name: str, job: Callable[[], None], distributed: bool) -> bool:
    """Whether a job succeeds: in a process of its own, so that its memory is its own and an error ends it alone."""
    if process_rank() == 0:
        print(name, flush=True)
    if distributed or "fork" not in multiprocessing.get_all_start_methods():
        job()
        return True
    child = multiprocessing.get_context("fork").Process(target=job)
    child.start()
    child.join()
    return child.exitcode == 0


def _title(task: str, full: bool, ids: Mapping[str, Any]) -> str:
    simulated = (read_parameters(ids["dataset_dir"]) or {}).get("simulated")
    images = "real readings on a SIMULATED CT" if simulated else "real CT"
    split = ids["manifest"] and load_manifest(ids["manifest"]).id
    return f"{task}, {images}; {'full' if full else 'small'} setting, seed {ids['seed']}, split {split}"
