# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from monai_stochseg.benchmark.jobs import output_to, run_job
from monai_stochseg.benchmark.methods import NULLS, READERS, BenchmarkError, check_ids, find_methods
from monai_stochseg.benchmark.report import write_report
from monai_stochseg.benchmark.run import EVALUATION, evaluate, evaluate_readers, read, result, train
from monai_stochseg.bundle import finish, process_rank, select_device, start
from monai_stochseg.data import CaseError, split_cases
from monai_stochseg.data.lidc import crops_datalist, load_manifest, simulated_lidc_folder, split_by_manifest
from monai_stochseg.data.lidc.crops_folder import read_parameters

# Minutes on two CPU cores: small crops, thin networks, the same number of steps for each method.
SMALL = {
    "max_epochs": 10,
    "val_interval": 5,
    "images_per_epoch": 640,
    "batch_size": 16,
    "channels": [8, 16, 32, 64],
    "norm": "BATCH",
}
SMALL_DATA = {"num_patients": 300, "spatial_size": 48, "spacing": 1.0, "slices_per_nodule": 1}
FULL_DATA = {"num_patients": None, "spatial_size": 180, "spacing": 0.5, "slices_per_nodule": None}


def benchmark(
    task: str = "lidc",
    out: str = "results",
    methods: Sequence[str] | None = None,
    full: bool = False,
    dataset_dir: str | None = None,
    manifest: str | None = "kohl",
    seed: int = 0,
    ids: Mapping[str, Any] | None = None,
) -> str | None:
    """
    Train and evaluate every method from one seed on one data set, and write one table.

    The small setting takes minutes on two CPU cores. --full is the papers' size, by the bundles' paper.json, for a GPU
    or, under torchrun, several. What is done already in the folder is kept: a run that stopped goes on where it was.

    Args:
        task: lidc.
        out: the folder of benchmark.csv, benchmark.md, benchmark.png, benchmark.log and a folder a method.
        methods: names of methods or of bundles, beside the nulls; default: all bundles of the task.
        full: the papers' sizes.
        dataset_dir: a folder of crops, see docs/lidc.md; default: real readings with a simulated CT, made on first use.
        manifest: the split by patient; None for the one that came with the data.
        seed: of weights, order, augmentation and noise; the simulated data are the same for each.
        ids: further ids of the bundles' configurations, the same for each method.

    Returns:
        The table; nothing in the other processes of torchrun.

    Raises:
        BenchmarkError: When an argument is of no use, or a method failed, after the others are done.
        CaseError: When the crops or the manifest cannot be used, or validation or test would be empty.

    """
    if methods is not None:
        methods = [*([methods] if isinstance(methods, str) else methods), *NULLS]
    chosen = find_methods(task, methods)
    if not isinstance(ids or {}, Mapping):
        raise BenchmarkError(f"ids must be like \"{{'max_epochs': 5}}\", got {ids!r}.")
    distributed = int(os.environ.get("WORLD_SIZE", 1)) > 1
    overlays = [*(["paper.json"] if full else []), *(["multi_gpu_train.json"] if distributed else [])]
    check_ids(chosen, overlays, ids or {})
    folder = Path(out).expanduser().absolute()
    if dataset_dir is None:
        data = folder / ("data_full" if full else "data")
        dataset_dir = simulated_lidc_folder(data, **(FULL_DATA if full else SMALL_DATA))
    given = {
        **({} if full else SMALL),
        "dataset_dir": str(Path(dataset_dir).expanduser().absolute()),
        "manifest": manifest,
        "seed": seed,
        **(ids or {}),
    }
    title = _title(task, full, given, ids or {})
    _check_parts(given["dataset_dir"], manifest)
    folder.mkdir(parents=True, exist_ok=True)
    if distributed:
        start(select_device(), distributed=True)

    done: dict[str, bool] = {}

    def run(name: str, job: Callable[..., None], *arguments: Any) -> bool:
        if name not in done:
            done[name] = _run(name, partial(job, *arguments, overlays, given), folder / "benchmark.log", distributed)
        return done[name]

    for method in chosen:
        results, trained = folder / method.name, folder / method.trained.name
        if run(f"{method.trained.name}: training", train, method.trained, trained):
            run(f"{method.name}: evaluation", evaluate, method, results, trained)
    run(READERS, evaluate_readers, chosen[0], folder / READERS)
    if distributed:
        finish()
    if process_rank() > 0:
        return None
    rows: dict[str, dict[str, Any]] = {}
    for method in find_methods(task):  # those of an earlier call with the same settings too
        found = result(method, folder / method.name, folder / method.trained.name, overlays, given)
        if found is not None:
            rows[method.name] = found
    if done[READERS]:
        rows[READERS] = read(folder / READERS / EVALUATION) or {}
    table = write_report(rows, folder, title, READERS)
    if failed := [name for name in done if not done[name]]:
        log = folder / "benchmark.log"
        raise BenchmarkError(f"these failed, see {log}: {', '.join(failed)}; {folder / 'benchmark.md'} has the others.")
    return table


def _check_parts(dataset_dir: str, manifest: str | None) -> None:
    """Refuse a split without validation or test before anything is trained."""
    datalist = crops_datalist(dataset_dir)
    split = split_cases(datalist) if manifest is None else split_by_manifest(datalist, load_manifest(manifest))
    for part, cases in split.items():
        if not cases:
            raise CaseError(
                f"the split {manifest or 'of the data'} leaves {part} empty; the benchmark needs all parts."
            )


def _run(name: str, job: Callable[[], None], log: Path, distributed: bool) -> bool:
    """Whether a job succeeds; under torchrun an error ends all processes."""
    if process_rank() == 0:
        print(name, flush=True)
    if not distributed:
        return run_job(name, job, log)
    with output_to(log):
        job()
    return True


def _title(task: str, full: bool, ids: Mapping[str, Any], changed: Mapping[str, Any]) -> str:
    crops_datalist(ids["dataset_dir"])  # refuses what holds no crops
    simulated = (read_parameters(ids["dataset_dir"]) or {}).get("simulated")
    images = "real readings on a SIMULATED CT" if simulated else "real CT"
    split = "as the data came" if ids["manifest"] is None else load_manifest(ids["manifest"]).id
    setting = f"{'full' if full else 'small'} setting"
    if changed:
        setting += f" but for {', '.join(f'{name} {value}' for name, value in changed.items())}"
    return f"{task}, {images}; {setting}, seed {ids['seed']}, split {split}"
