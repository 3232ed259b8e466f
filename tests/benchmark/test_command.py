# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
import sys
from contextlib import redirect_stdout
from functools import partial
from io import StringIO
from pathlib import Path

import mlflow
import pytest
from own_folders import raster_folder

from monai_stochseg.__main__ import main
from monai_stochseg.benchmark import BenchmarkError, benchmark, find_methods, run
from monai_stochseg.data import CaseError, simulated_brain_folder, simulated_cityscapes_folder
from monai_stochseg.planning import plan

TINY = {"max_epochs": 1, "val_interval": 1, "images_per_epoch": 8, "batch_size": 4, "channels": [4, 8]}
METHODS = ["deterministic", "threshold", "independent"]
CHECKPOINT, RESULT = "model_last.pt", "evaluation.json"


@pytest.fixture(scope="module", autouse=True)
def _mlflow(tmp_path_factory) -> None:
    """One database for all: MLflow takes seconds to make its tables."""
    with pytest.MonkeyPatch.context() as patch:
        uri = f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlruns.db'}"
        mlflow.MlflowClient(uri).search_experiments()
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def done(tmp_path_factory, crops_folder) -> Path:
    """A benchmark of the nulls and the answer of the same network."""
    folder = tmp_path_factory.mktemp("benchmark") / "results"
    with redirect_stdout(StringIO()) as output:
        main(command(folder, crops_folder, "deterministic")[2:])
    (folder / "output.txt").write_text(output.getvalue())
    return folder


def command(out: Path, crops: Path, methods: str, **options: object) -> list[str]:
    given = {"out": out, "dataset_dir": crops, "methods": methods, "ids": TINY, "workers": 1, **options}
    return ["-m", "monai_stochseg", "benchmark", *(f"--{name}={value}" for name, value in given.items())]


def rows(folder: Path) -> dict[str, dict[str, str]]:
    with (folder / "benchmark.csv").open(newline="") as file:
        return {row["method"]: row for row in csv.DictReader(file)}


def times(folder: Path) -> dict[str, int]:
    files = [*folder.glob(f"seed_0/*/{CHECKPOINT}"), *folder.glob(f"seed_0/*/{RESULT}")]
    return {str(file.relative_to(folder)): file.stat().st_mtime_ns for file in files}


def joined(folder: Path, name: str, **changes: object) -> None:
    """A bundle in the working folder: that of the baselines with other ids."""
    source, bundle = Path(__file__).parents[2] / "bundles" / "baselines_lidc", folder / "bundles" / name
    bundle.mkdir(parents=True)
    shutil.copy(source / "metadata.json", bundle)
    (bundle / "benchmark.json").write_text(json.dumps({name: {}}))
    config = json.loads((source / "train.json").read_text())
    (bundle / "train.json").write_text(json.dumps(config | changes))


def test_table_and_output(done) -> None:
    steps = ["threshold: training", *(f"{name}: evaluation" for name in METHODS), "readers"]
    steps = "".join(f"seed 0, {step}\n" for step in steps)
    table = (done / "benchmark.md").read_text()
    assert (done / "output.txt").read_text() == f"{steps}{table}\n"
    assert table.startswith("lidc, real readings on a SIMULATED CT; small setting but for max_epochs 1, ")
    found = rows(done)
    assert list(found) == [*METHODS, "readers"]
    for name in ("GED 16", "GED 50", "GED 100", "HM-IoU 16", "Dice", "Dice, non-empty readers", "ECE", "diversity"):
        values = [float(row[name]) for row in found.values()]
        assert all(0 <= value <= 2 for value in values), name
    assert float(found["readers"]["GED 100"]) < 0.05
    assert len({round(float(found["deterministic"][f"GED {n}"]), 4) for n in (16, 50, 100)}) == 1
    assert float(found["deterministic"]["diversity"]) == 0
    assert found["deterministic"]["diversity, rank correlation"] == "nan"
    for name in ("s / step", "ms / further sample", "peak MiB", "parameters"):
        assert float(found["threshold"][name]) > 0
        assert found["readers"][name] == ""
    assert float(found["threshold"]["ms / image, once"]) >= 0
    for name in ("benchmark.png", "benchmark_cost.png"):
        assert (done / name).stat().st_size > 10000
    log = (done / "benchmark.log").read_text()
    assert [line for line in log.splitlines() if line.startswith("==")] == [f"== {step}" for step in steps.splitlines()]
    assert "Key metric: val_ged" in log


def test_done_is_done_and_each_seed_has_its_own(done, crops_folder, tmp_path) -> None:
    folder = shutil.copytree(done, tmp_path / "results")
    before = times(folder)
    assert len(before) == 5
    again = {"out": str(folder), "dataset_dir": str(crops_folder), "methods": "threshold", "ids": TINY}
    assert "| threshold |" in (benchmark(**again) or "")
    assert times(folder) == before
    benchmark(**again, seeds=2)
    assert times(folder) == before
    assert {path.name for path in (folder / "seed_1").iterdir()} == {"threshold", "independent", "readers"}
    found = rows(folder)
    assert (found["threshold"]["seeds"], found["deterministic"]["seeds"]) == ("2", "1")
    one, other = (json.loads((folder / f"seed_{i}" / "threshold" / RESULT).read_text())["dice"] for i in (0, 1))
    assert float(found["threshold"]["Dice"]) == pytest.approx((one + other) / 2)
    low, high = (float(end) for end in found["threshold"]["GED 16, 95 %"].split(" to "))
    assert low <= float(found["threshold"]["GED 16"]) <= high


def test_resumes(done, crops_folder, tmp_path) -> None:
    folder = shutil.copytree(done, tmp_path / "results")
    longer = {**TINY, "max_epochs": 2}
    trained = folder / "seed_0" / "threshold"
    settings = json.loads((trained / "settings.json").read_text())
    (trained / "settings.json").write_text(json.dumps(settings | {"max_epochs": 2}))
    (trained / "training.json").unlink()
    benchmark(out=str(folder), dataset_dir=str(crops_folder), methods=["threshold"], ids=longer)
    assert json.loads((trained / "training.json").read_text())["steps"] == 4
    assert not (trained / "model_last.previous.pt").exists()  # as after a training anew


def test_a_run_that_stopped_before_it_trained_takes_no_other_settings_weights(
    done, crops_folder, tmp_path, monkeypatch
):
    folder = shutil.copytree(done, tmp_path / "results")
    trained = folder / "seed_0" / "threshold"
    monkeypatch.setattr(run.ConfigWorkflow, "run", _stop)
    ids = {**TINY, "dataset_dir": str(crops_folder)}
    method = find_methods("lidc", ["threshold"])[0]
    with pytest.raises(KeyboardInterrupt):
        run.train("lidc", method, trained, [], {**ids, "seed": 1})
    assert not (trained / "settings.json").exists()
    monkeypatch.undo()
    run.train("lidc", method, trained, [], {**ids, "seed": 1, "norm": "BATCH"})
    assert (trained / "model_last.previous.pt").is_file()
    assert json.loads((trained / "training.json").read_text())["seconds_per_step"] > 0


def _stop(workflow) -> None:
    raise KeyboardInterrupt


def test_a_failing_method_leaves_the_others(done, crops_folder, tmp_path) -> None:
    folder = shutil.copytree(done, tmp_path / "results")
    joined(tmp_path, "broken_lidc", method="no_such_method")
    joined(tmp_path, "mine_lidc", method="deterministic")
    words = command(folder, crops_folder, "broken_lidc,mine_lidc")
    finished = subprocess.run([sys.executable, *words], capture_output=True, text=True)
    assert finished.returncode == 1
    first, *_, last = finished.stderr.splitlines()  # between them may stand what Python says of its processes
    assert first.startswith("seed 0, broken_lidc: training: ValueError: method must be one of deterministic, ")
    assert re.fullmatch(
        r"BenchmarkError: these failed, see \S+benchmark.log: seed 0, broken_lidc: training; \S+ has .*", last
    )
    assert "seed 0, broken_lidc: evaluation" not in finished.stdout
    assert "Traceback" in (folder / "benchmark.log").read_text()
    assert set(rows(folder)) == {"mine_lidc", *METHODS, "readers"}  # those done before stay
    assert float(rows(folder)["mine_lidc"]["parameters"]) > 0


def test_two_processes(crops_folder, tmp_path) -> None:
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    words = command(tmp_path / "out", crops_folder, "deterministic")
    finished = subprocess.run([sys.executable, *torchrun, *words], capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.count("seed 0, deterministic: evaluation") == 1
    found = rows(tmp_path / "out")
    assert list(found) == [*METHODS, "readers"]
    assert json.loads((tmp_path / "out" / "seed_0" / "threshold" / "training.json").read_text())["steps"] == 1
    assert float(found["readers"]["GED 100"]) < 0.05


@pytest.mark.parametrize(
    ("task", "make", "ids", "floor"),
    [
        (
            "brats",
            partial(simulated_brain_folder, num_patients=8, spatial_size=(16, 16, 16)),
            {"roi_size": [16] * 3},
            0.4,
        ),
        (
            "cityscapes",
            partial(simulated_cityscapes_folder, num_images=8, size=(32, 64)),
            {"spatial_size": [32, 64], "crop_size": [16, 16]},
            0.05,
        ),
    ],
)
def test_other_tasks_and_the_truth_as_their_floor(tmp_path, task, make, ids, floor) -> None:
    """A method of an LIDC bundle by the task's overlay; the floor is drawn from the truth, not from the raters."""
    table = benchmark(
        task=task, out="out", methods="threshold", dataset_dir=make(tmp_path / "data"), ids={**TINY, **ids}
    )
    assert table is not None
    assert table.startswith(f"{task}, SIMULATED ")
    found = rows(tmp_path / "out")
    assert list(found) == ["threshold", "independent", "readers"]
    assert 0 <= float(found["readers"]["GED 100"]) < floor
    assert float(found["readers"]["GED 100"]) < float(found["threshold"]["GED 100"])


def test_a_plan_of_own_readers(tmp_path) -> None:
    """Readers known by name, RGB: the nulls and one method, with the readers as the floor and a column of each."""
    folder = raster_folder(tmp_path / "mine")
    plan(str(folder), minutes=0.01, progress=False)
    ids = {**TINY, "patch_size": [16, 16], "batch_size": 2, "split_fractions": [0.5, 0.25, 0.25]}
    table = benchmark(task=str(folder / "plan.json"), out="out", methods="mose", ids=ids, workers=2)
    assert table is not None
    assert table.startswith("mine, real images; as planned but for max_epochs 1, ")
    found = rows(tmp_path / "out")
    assert list(found) == ["threshold", "independent", "mose", "readers"]
    assert all(0 <= float(row["GED 16"]) <= 2 for row in found.values())
    assert min(found, key=lambda name: float(found[name]["GED 100"])) == "readers"


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"task": "brain"}, BenchmarkError, "task must be one of lidc, brats, cityscapes, or a plan.json, got 'brain'"),
        ({"methods": "nothing"}, BenchmarkError, "there is no method or bundle 'nothing'"),
        ({"ids": {"max_epoch": 1}}, BenchmarkError, "no bundle has an id 'max_epoch' to be set"),
        ({"ids": "max_epochs"}, BenchmarkError, "ids must be like .*, got 'max_epochs'"),
        ({"workers": 0}, BenchmarkError, "workers must be at least 1, got 0"),
        ({"seeds": 0}, BenchmarkError, "seeds must be at least 1, got 0"),
        ({"task": "brats", "full": True}, BenchmarkError, "the papers' sizes are those of LIDC"),
        ({"ids": {"manifest": "koln"}}, CaseError, "'koln' is none of"),
        ({"ids": {"manifest": "svls"}}, CaseError, "part 'test' is empty"),
        ({"dataset_dir": "nowhere"}, CaseError, "nowhere holds no crops"),
    ],
)
def test_refuses(crops_folder, tmp_path, options, error, message) -> None:
    given = {"out": "out", "dataset_dir": str(crops_folder), **options}
    with pytest.raises(error, match=message):
        benchmark(**given)
    with pytest.raises(SystemExit, match=f"^{error.__name__}: .*{message}"):
        main(["benchmark", *(f"--{name}={value}" for name, value in given.items())])
    assert not (tmp_path / "out").exists()
