# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from monai_stochseg.benchmark.jobs import output_to, run_jobs
from monai_stochseg.benchmark.methods import NULLS, READERS, BenchmarkError, Method, check_ids, find_methods
from monai_stochseg.benchmark.report import write_report
from monai_stochseg.benchmark.run import EVALUATION, evaluate, evaluate_readers, make_task, read, result, train
from monai_stochseg.benchmark.settings import SETTINGS, find_setting
from monai_stochseg.bundle.runtime import end_run, is_distributed, process_rank, select_device, start_process
from monai_stochseg.tasks import Task


def benchmark(
    task: str = "lidc",
    out: str = "results",
    methods: Sequence[str] | None = None,
    full: bool = False,
    dataset_dir: str | None = None,
    seed: int = 0,
    seeds: int = 1,
    ids: Mapping[str, Any] | None = None,
    workers: int | None = None,
) -> str | None:
    """
    Train and evaluate every method on one task from one seed or several, and write one table.

    The small setting takes minutes on two CPU cores. --full is the papers' size on LIDC, by the bundles' paper.json,
    for a GPU or, under torchrun, several. What is done already in the folder is kept: a run that stopped goes on where
    it was.

    Args:
        task: lidc, brats or cityscapes, or the path of a plan of your own data.
        out: the folder of benchmark.csv, benchmark.md, benchmark.png, benchmark.log and a folder a seed and method.
        methods: names of methods or of bundles, beside the nulls; default: all that bundles name.
        full: the papers' sizes.
        dataset_dir: the data; default: simulated ones, made on first use.
        seed: the first seed, of weights, order, augmentation and noise; the simulated data are the same for each.
        seeds: number of seeds.
        ids: further ids of the bundles' configurations, the same for each method.
        workers: number of methods at a time, each with its share of the CPU's threads; default: up to four on CPU
            cores, one on a GPU. Under torchrun the processes do one method together.

    Returns:
        The table; nothing in the other processes of torchrun.

    Raises:
        BenchmarkError: when an argument cannot be used, or a method failed, after the others are done.
        CaseError: when the data cannot be used, or validation or test would be empty.
    """
    if methods is not None:
        methods = [*([methods] if isinstance(methods, str) else methods), *NULLS]
    chosen = find_methods(task, methods)
    if not isinstance(ids or {}, Mapping):
        raise BenchmarkError(f"ids must be like \"{{'max_epochs': 5}}\", got {ids!r}.")
    if not isinstance(seeds, int) or seeds < 1:
        raise BenchmarkError(f"seeds must be at least 1, got {seeds!r}.")
    if workers is None:
        workers = 1 if torch.cuda.is_available() else min(4, torch.get_num_threads())
    if not isinstance(workers, int) or workers < 1:
        raise BenchmarkError(f"workers must be at least 1, got {workers!r}.")
    overlays = ["paper.json"] if full else []
    check_ids(task, chosen, overlays, ids or {})
    folder = Path(out).expanduser().absolute()
    given = {
        **({} if full else find_setting(task).small),
        **(ids or {}),
        "dataset_dir": _data(task, folder, full, dataset_dir),
    }
    title = _title(make_task(task, chosen[0], overlays, given), task, full, range(seed, seed + seeds), ids or {})
    folder.mkdir(parents=True, exist_ok=True)
    if is_distributed():
        start_process(select_device())
    failed: list[str] = []
    rows = []
    for each in range(seed, seed + seeds):
        place = folder / f"seed_{each}"
        run = partial(_run, f"seed {each}, ", folder / "benchmark.log", workers)
        failed += _run_seed(task, chosen, place, overlays, {**given, "seed": each}, run)
        rows.append(_rows(task, place, overlays, {**given, "seed": each}))
    if is_distributed():
        end_run()
    if process_rank() > 0:
        return None
    table = write_report(rows, folder, title, READERS)
    if failed:
        log = folder / "benchmark.log"
        raise BenchmarkError(f"these failed, see {log}: {', '.join(failed)}; {folder / 'benchmark.md'} has the others.")
    return table


def _data(task: str, folder: Path, full: bool, dataset_dir: str | None) -> str:
    setting = find_setting(task)
    if full and setting.full_data is None:
        raise BenchmarkError(f"full: the papers' sizes are those of LIDC; task {task} has the small setting alone.")
    if dataset_dir is not None:
        return str(Path(dataset_dir).expanduser().absolute())
    if full and setting.full_data is not None:
        return setting.full_data(folder / "data_full")
    return setting.data(folder / "data")


def _run_seed(
    task: str,
    methods: Sequence[Method],
    folder: Path,
    overlays: Sequence[str],
    ids: Mapping[str, Any],
    run: Callable[[Mapping[str, Callable[[], None]]], dict[str, bool]],
) -> list[str]:
    """Train all methods from one seed, then evaluate those that could be; the names of the steps that failed."""

    def job(function: Callable[..., None], *arguments: Any) -> Callable[[], None]:
        return partial(function, task, *arguments, overlays, ids)

    trainings = {
        f"{method.trained.name}: training": job(train, method.trained, folder / method.trained.name)
        for method in methods
    }
    done = run(trainings)
    evaluations = {
        f"{method.name}: evaluation": job(evaluate, method, folder / method.name, folder / method.trained.name)
        for method in methods
        if done[f"{method.trained.name}: training"]
    }
    done |= run({**evaluations, READERS: job(evaluate_readers, methods[0], folder / READERS)})
    return [f"seed {ids['seed']}, {name}" for name, succeeded in done.items() if not succeeded]


def _rows(task: str, folder: Path, overlays: Sequence[str], ids: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The results of a seed by method: those of an earlier call with the same settings too."""
    rows = {}
    for method in find_methods(task):
        found = result(task, method, folder / method.name, folder / method.trained.name, overlays, ids)
        if found is not None:
            rows[method.name] = found
    floor = read(folder / READERS / EVALUATION)
    return rows if floor is None else {**rows, READERS: floor}


def _run(seed: str, log: Path, workers: int, jobs: Mapping[str, Callable[[], None]]) -> dict[str, bool]:
    """Whether each job succeeds; under torchrun an error ends all processes."""

    def say(name: str) -> None:
        if process_rank() == 0:
            print(name, flush=True)

    if not is_distributed():
        done = run_jobs({f"{seed}{name}": job for name, job in jobs.items()}, log, workers, say)
        return {name.removeprefix(seed): succeeded for name, succeeded in done.items()}
    for name, job in jobs.items():
        say(f"{seed}{name}")
        with output_to(log):
            job()
    return dict.fromkeys(jobs, True)


def _title(task: Task, name: str, full: bool, seeds: range, changed: Mapping[str, Any]) -> str:
    """What was compared; refuses data that cannot be used, or a split without validation or test."""
    for part in ("train", "validation", "test"):
        task.cases(part)
    data = {
        ("lidc", True): "real readings on a SIMULATED CT",
        ("lidc", False): "real CT",
        ("brats", True): "SIMULATED brains",
        ("cityscapes", True): "SIMULATED streets",
    }.get((name, task.simulated), "real images")
    setting = f"{'full' if full else 'small'} setting" if name in SETTINGS else "as planned"
    if changed:
        setting += f" but for {', '.join(f'{key} {value}' for key, value in changed.items())}"
    which = f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {seeds[0]} to {seeds[-1]}"
    split = task.parameters.get("manifest")
    name = name if name in SETTINGS else Path(task.dataset_dir).name
    return f"{name}, {data}; {setting}, {which}" + ("" if split is None else f", split {split}")
