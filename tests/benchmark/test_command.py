# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
import sys
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import mlflow
import pytest

from monai_stochseg.__main__ import main
from monai_stochseg.benchmark import BenchmarkError, benchmark, find_methods, run
from monai_stochseg.benchmark.command import _title
from monai_stochseg.data import CaseError

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
    given = {"out": out, "dataset_dir": crops, "methods": methods, "ids": TINY, **options}
    return ["-m", "monai_stochseg", "benchmark", *(f"--{name}={value}" for name, value in given.items())]


def rows(folder: Path) -> dict[str, dict[str, str]]:
    with (folder / "benchmark.csv").open(newline="") as file:
        return {row["method"]: row for row in csv.DictReader(file)}


def times(folder: Path) -> dict[str, int]:
    files = [*folder.glob(f"*/{CHECKPOINT}"), *folder.glob(f"*/{RESULT}")]
    return {str(file.relative_to(folder)): file.stat().st_mtime_ns for file in files}


def joined(folder: Path, name: str, **changes: object) -> None:
    """A bundle in the working folder, without benchmark.json: that of the baselines with other ids."""
    source, bundle = Path(__file__).parents[2] / "bundles" / "baselines_lidc", folder / "bundles" / name
    bundle.mkdir(parents=True)
    shutil.copy(source / "evaluate.json", bundle)
    config = json.loads((source / "train.json").read_text())
    (bundle / "train.json").write_text(json.dumps(config | changes))


def test_table_and_output(done) -> None:
    steps = "threshold: training\n" + "".join(f"{name}: evaluation\n" for name in METHODS) + "readers\n"
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
    for name in ("s / step", "ms / sample", "peak MiB", "parameters"):
        assert float(found["threshold"][name]) > 0
        assert found["readers"][name] == ""
    assert (done / "benchmark.png").stat().st_size > 10000
    log = (done / "benchmark.log").read_text()
    assert [line for line in log.splitlines() if line.startswith("==")] == [f"== {step}" for step in steps.splitlines()]
    assert "Key metric: val_ged" in log


def test_done_is_done_and_another_seed_is_not(done, crops_folder, tmp_path) -> None:
    folder = shutil.copytree(done, tmp_path / "results")
    before = times(folder)
    assert len(before) == 5
    again = {"out": str(folder), "dataset_dir": str(crops_folder), "methods": "threshold", "ids": TINY}
    assert "| threshold |" in (benchmark(**again) or "")
    assert times(folder) == before
    benchmark(**again, seed=1)
    after = times(folder)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == before.keys() - {f"deterministic/{RESULT}"}
    assert (folder / "threshold" / "model_last.previous.pt").is_file()


def test_resumes(done, crops_folder, tmp_path) -> None:
    folder = shutil.copytree(done, tmp_path / "results")
    longer = {**TINY, "max_epochs": 2}
    trained = folder / "threshold"
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
    trained = folder / "threshold"
    monkeypatch.setattr(run.ConfigWorkflow, "run", _stop)
    ids = {**TINY, "dataset_dir": str(crops_folder), "manifest": "kohl"}
    method = find_methods("lidc", ["threshold"])[0]
    with pytest.raises(KeyboardInterrupt):
        run.train(method, trained, [], {**ids, "seed": 1})
    assert not (trained / "settings.json").exists()
    monkeypatch.undo()
    run.train(method, trained, [], {**ids, "seed": 1, "norm": "BATCH"})
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
    assert first.startswith("broken_lidc: training: ValueError: method must be one of deterministic, ")
    assert re.fullmatch(r"BenchmarkError: these failed, see \S+benchmark.log: broken_lidc: training; \S+ has .*", last)
    assert "broken_lidc: evaluation" not in finished.stdout
    assert "Traceback" in (folder / "benchmark.log").read_text()
    assert set(rows(folder)) == {"mine_lidc", *METHODS, "readers"}  # those done before stay
    assert float(rows(folder)["mine_lidc"]["parameters"]) > 0


def test_two_processes(crops_folder, tmp_path) -> None:
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    words = command(tmp_path / "out", crops_folder, "deterministic")
    finished = subprocess.run([sys.executable, *torchrun, *words], capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.count("deterministic: evaluation") == 1
    found = rows(tmp_path / "out")
    assert list(found) == [*METHODS, "readers"]
    assert json.loads((tmp_path / "out" / "threshold" / "training.json").read_text())["steps"] == 1
    assert float(found["readers"]["GED 100"]) < 0.05


def test_title_of_real_data_that_came_split(crops_folder, tmp_path) -> None:
    crops = shutil.copytree(crops_folder, tmp_path / "crops")
    index = json.loads((crops / "crops.json").read_text())
    (crops / "crops.json").write_text(json.dumps(index | {"parameters": {}}))
    title = _title("lidc", True, {"dataset_dir": str(crops), "manifest": None, "seed": 3}, {})
    assert title == "lidc, real CT; full setting, seed 3, split as the data came"


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"task": "brain"}, BenchmarkError, "task must be one of lidc, got 'brain'"),
        ({"methods": "nothing"}, BenchmarkError, "there is no method or bundle 'nothing'"),
        ({"ids": {"max_epoch": 1}}, BenchmarkError, "no bundle has an id 'max_epoch' to be set"),
        ({"ids": "max_epochs"}, BenchmarkError, "ids must be like .*, got 'max_epochs'"),
        ({"manifest": "koln"}, CaseError, "'koln' is none of"),
        ({"manifest": "svls"}, CaseError, "the split svls leaves test empty"),
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
