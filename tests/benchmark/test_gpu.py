# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest
import torch

from monai_stochseg.benchmark import find_methods

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="these are the tiny runs of a CPU")
CPU_LINE = "CPU, tiny sizes: these figures say only that the script runs."


def run(repository: Path, out: Path, *options: str) -> subprocess.CompletedProcess:
    words = [sys.executable, str(repository / "benchmarks" / "gpu.py"), "--out", str(out), *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(words, capture_output=True, text=True, timeout=900, cwd=out.parent, env=environment)


def rows(out: Path) -> dict[tuple[str, str], dict]:
    return {(row["part"], row["name"]): row for row in json.loads((out / "gpu.json").read_text())["rows"]}


@pytest.fixture
def module(repository, monkeypatch):
    """Imports a module of the benchmarks."""
    monkeypatch.syspath_prepend(repository / "benchmarks")

    def load(name: str) -> ModuleType:
        return __import__(name)

    return load


def test_a_row_that_fails_is_one_line_and_the_others_go_on(repository, tmp_path) -> None:
    """The folder of LIDC holds something else, so that its training cannot have data."""
    out = tmp_path / "out"
    (out / "data" / "lidc_tiny").mkdir(parents=True)
    (out / "data" / "lidc_tiny" / "mine.txt").touch()
    done = run(repository, out, "--parts", "losses", "sampling", "training", "--methods", "ssn", "--seconds", "0.1")
    assert done.returncode == 1, done.stderr
    found = rows(out)
    assert list(found) == [
        ("losses", "SSN loss"),
        ("losses", "optimal transport loss"),
        ("sampling", "sampling label maps"),
        ("training", "ssn, lidc"),
        ("training", "ssn, brats"),
    ]
    failed = found.pop(("training", "ssn, lidc"))
    assert failed["error"].startswith("FileExistsError: ")
    assert "\n" not in failed["error"]
    assert failed["values"] == {}
    for row in found.values():
        assert row["error"] is None
        assert all(value >= 0 for value in row["values"].values())
    for name in ("SSN loss", "optimal transport loss"):
        assert found["losses", name]["values"]["largest relative difference"] < 1e-4
    trained = found["training", "ssn, brats"]
    assert trained["setting"] == "tiny, float32"
    assert trained["values"]["steps a second"] >= trained["values"]["with loading"] > 0
    assert done.stdout == (out / "gpu.md").read_text()
    lines = done.stdout.splitlines()
    assert lines[0] == CPU_LINE
    assert [line for line in lines if "FAILED: FileExistsError" in line] == [lines[-2]]
    told = json.loads((out / "gpu.json").read_text())["machine"]
    assert (told["device"], told["sizes"], told["torch"]) == ("CPU", "tiny", torch.__version__)
    assert "Traceback" in (out / "gpu.log").read_text()


@pytest.mark.slow
def test_all_parts_and_methods(repository, tmp_path) -> None:
    out = tmp_path / "out"
    done = run(repository, out, "--seconds", "0.1")
    assert done.returncode == 0, done.stdout + done.stderr
    found = rows(out)
    trained = {f"{m.trained.name}, {task}" for task in ("lidc", "brats") for m in find_methods(task)}
    assert {name for part, name in found if part == "training"} == trained
    assert {part for part, _ in found} == {"tests", "losses", "ged", "sampling", "training"}
    tests = found["tests", "marked tests"]["values"]
    assert tests["passed"] == 0
    assert tests["skipped"] > 100
    assert found["ged", "generalized energy distance"]["values"]["largest relative difference"] < 1e-4


def test_a_process_that_dies_is_a_row(module, tmp_path, monkeypatch) -> None:
    jobs = module("device_jobs")
    (tmp_path / "row.json").write_text("{}")  # of an earlier run that was stopped
    monkeypatch.setattr(jobs, "run_jobs", lambda jobs, log: dict.fromkeys(jobs, False))  # it wrote nothing
    result = jobs.measure("death", partial(os._exit, 3), tmp_path)
    assert result == {"error": "its process was ended from outside, or by a crash; see gpu.log"}


def test_a_gpu_is_waited_for_and_its_peak_is_that_of_the_call(module, monkeypatch) -> None:
    """By a stand-in for torch.cuda: no GPU is here."""
    called = []
    told = {"synchronize": None, "reset_peak_memory_stats": None, "memory_allocated": 30, "max_memory_allocated": 100}
    for name, value in told.items():
        monkeypatch.setattr(torch.cuda, name, lambda device, name=name, value=value: called.append(name) or value)
    measure, gpu = module("device_measure"), torch.device("cuda", 0)
    assert measure.seconds(lambda: called.append("call"), gpu, repeats=1) > 0
    assert called == ["call", "synchronize", "call", "synchronize"]
    called.clear()
    assert measure.peak_bytes(lambda: called.append("call"), gpu) == 70
    assert called == [
        *("synchronize", "reset_peak_memory_stats", "memory_allocated"),
        *("call", "synchronize", "max_memory_allocated"),
    ]


JUNIT = """<testsuites><testsuite>
<testcase name="good"/><testcase name="none"><skipped type="pytest.skip"/></testcase>
<testcase name="known"><skipped type="pytest.xfail"/></testcase>{}
</testsuite></testsuites>"""


def test_marked_tests_are_counted_and_one_that_fails_is_named(module, tmp_path, monkeypatch) -> None:
    tests = module("device_tests")

    def stand_in(words: list[str], more: str, status: int, **kwargs) -> subprocess.CompletedProcess:
        (tmp_path / "tests.xml").write_text(JUNIT.format(more))
        return subprocess.CompletedProcess(words, status, "", "")

    monkeypatch.setattr(subprocess, "run", partial(stand_in, more="", status=0))
    values = tests.gpu_tests(tmp_path / "tests.xml")["values"]
    assert values == {"passed": 1, "failed as expected": 1, "skipped": 1}
    bad = '<testcase name="bad"><failure/></testcase>'
    monkeypatch.setattr(subprocess, "run", partial(stand_in, more=bad, status=1))
    with pytest.raises(RuntimeError, match="1 of 4 tests failed: bad"):
        tests.gpu_tests(tmp_path / "tests.xml")


def test_papers_sizes_where_there_is_a_paper(module) -> None:
    found = {(t.method.name, t.task): t for t in module("device_training").trainings(tiny=False)}
    ssn = found["ssn_diagonal", "brats"]
    assert [str(file.relative_to(file.parents[1])) for file in ssn.files] == [
        "ssn_brats/train.json",
        "ssn_brats/paper.json",
    ]
    assert [t.files[-1].name for t in found.values() if t.task == "lidc"] == ["paper.json"] * (len(found) // 2)
    others = {t.setting for (name, task), t in found.items() if task == "brats" and not name.startswith("ssn")}
    assert others == {"train.json, 112^3, batch 2"}


def test_the_first_line_is_that_of_the_machine(module, tmp_path) -> None:
    report = module("device_report").Report
    told = {"device": "A GPU", "capability": "9.0", "memory_bytes": 2**37, "sizes": "paper", "date": "today"}
    told |= {"torch": "2", "cuda": "13", "cudnn": 9}
    assert report(tmp_path, told).title() == (
        "A GPU, 128 GiB, capability 9.0, PyTorch 2, CUDA 13, cuDNN 9, paper sizes, today"
    )
    assert report(tmp_path, {"device": "CPU", "sizes": "paper"}).title() == "CPU: no figure is that of a GPU."


@pytest.mark.parametrize(
    ("options", "message"),
    [(["--methods", "nothing"], "there is no method or bundle 'nothing'"), (["--device", "cuda:7"], "is not there")],
)
def test_wrong_arguments(module, capsys, options, message) -> None:
    assert module("gpu").main(options) == 2
    assert message in capsys.readouterr().err


def test_help_says_how_long(module, capsys) -> None:
    with pytest.raises(SystemExit):
        module("gpu").main(["--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert "On a GPU the whole takes about 9 minutes, and 34 with --seconds 60." in said
