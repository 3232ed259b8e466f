# SPDX-License-Identifier: Apache-2.0
"""Two machines of one process each do what one process does."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from bundle_runs import config_files, make_workflow, run_workflow, table
from disc_crops import disc_crops
from tiny import HOME, METHODS, RUN
from two_nodes import Nodes
from two_processes import keep_metrics

from monai_stochseg.data.lidc import load_manifest
from monai_stochseg.data.lidc.crops_folder import write_crops

SCRIPT = str(Path(__file__).with_name("two_processes.py"))
CASES = {"validation": 1, "test": 3}  # one process has none, or one less
Job = tuple[list[str], dict[str, Any]]  # files and options
ANSWERS = ("ssn", "msvls")  # samples, and single answers


@contextmanager
def nodes(arguments: list[str], cwd: Path) -> Iterator[Nodes]:
    both = Nodes(arguments, cwd)
    try:
        yield both
    finally:
        both.kill()


@pytest.fixture(scope="module")
def crops(tmp_path_factory) -> str:
    """The crops of the other tests, without some."""
    parts = load_manifest("kohl").parts
    all_crops = list(disc_crops(2, 16))
    kept = [crop for crop in all_crops if crop.patient_id in parts["train"]]
    for part, number in CASES.items():
        kept += [crop for crop in all_crops if crop.patient_id in parts[part]][:number]
    folder = tmp_path_factory.mktemp("odd") / "crops"
    write_crops(kept, folder, {"simulated": True})
    return str(folder)


def last_state(output: Path) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(output / "model_last.pt", weights_only=True)
    return state


def training(crops: str, output: Path, **override: Any) -> dict[str, Any]:
    """Options of a small training whose epoch of eight images is as many steps as one or two processes make of it."""
    sizes = {"images_per_epoch": 8, "val_interval": 100}
    return {**RUN, **HOME["ssn_lidc"], **sizes, "dataset_dir": crops, "output_dir": str(output), **override}


def evaluations_and_inferences(crops: str, folder: Path) -> list[tuple[str, list[str], dict[str, Any]]]:
    """Method, files and options of each, of untrained networks."""
    runs = []
    for name in ANSWERS:
        bundle, ids, _ = METHODS[name]
        overlays = ["tasks/lidc"] if name == "msvls" else []
        options = {**RUN, **ids, "dataset_dir": crops}
        network = make_workflow(bundle, *overlays, **options, output_dir=str(folder)).parser
        checkpoint = str(folder / f"{name}.pt")
        torch.save({"network": network.get_parsed_content("network_def").state_dict()}, checkpoint)
        for part in CASES:
            own = {**options, "part": part, "checkpoint": checkpoint}
            runs.append((name, config_files(bundle, *overlays, "evaluate"), own))
    for number in CASES.values():
        own = {**HOME["ssn_lidc"], "dataset_dir": crops, "device": "cpu", "checkpoint": str(folder / "ssn.pt")}
        runs.append(("ssn", config_files("ssn_lidc", base="inference"), {**own, "max_cases": number}))
    return runs


def kill(jobs: Sequence[Job], crops: str, output: Path, rank: int, number: int) -> None:
    """
    Send a signal to one process of a training by two nodes, after other jobs of theirs. Seconds until the other one has
    ended are left in ``seconds``, and what each has printed in ``node_<rank>.log``.
    """
    file = output / "jobs.json"
    file.write_text(json.dumps([*jobs, (config_files("ssn_lidc"), training(crops, output, max_epochs=100_000))]))
    with nodes([SCRIPT, str(file)], output) as both:
        both.wait_for((output / "model_last.pt").exists, 240)
        worker, start = both.worker(rank), time.monotonic()
        os.kill(worker, number)
        assert both.processes[1 - rank].wait(60) == 1
        (output / "seconds").write_text(str(time.monotonic() - start))
        if number == signal.SIGKILL:
            assert both.wait(30) == [1, 1]


@pytest.fixture(scope="module")
def by_one_and_two(crops, mlflow_database, tmp_path_factory) -> Path:
    """
    What one process leaves in the folders ``<method>/one``, and two nodes in ``<method>/two``; in ``training`` a
    training that one process begins and two nodes go on with; in ``killed`` how another one of two nodes ends.
    """
    folder = tmp_path_factory.mktemp("nodes")
    output = folder / "training"
    output.mkdir()
    shutil.copy(mlflow_database, output)
    run_workflow("ssn_lidc", **training(crops, output, max_epochs=1))
    assert last_state(output)["trainer"]["iteration"] == 4
    jobs = [(config_files("ssn_lidc"), training(crops, output, max_epochs=2, resume=True))]
    for name, files, options in evaluations_and_inferences(crops, folder):
        one, two = (folder / name / number for number in ("one", "two"))
        place = f"predictions_{options.get('max_cases')}"
        own = [{**options, "output_dir": str(each)} for each in (one, two)]
        if "max_cases" in options:
            own = [{**each, "prediction_dir": f"{each['output_dir']}/{place}"} for each in own]
        for each in (one, two):
            each.mkdir(parents=True, exist_ok=True)
        workflow = run_workflow(files=files, **own[0])
        if "part" in options:
            keep_metrics(workflow, own[0])
        jobs.append((files, own[1]))
    (folder / "killed").mkdir()
    shutil.copy(mlflow_database, folder / "killed")
    kill(jobs, crops, folder / "killed", 1, signal.SIGKILL)
    return folder


@pytest.mark.parametrize("part", CASES)
@pytest.mark.parametrize("name", ANSWERS)
def test_each_case_is_once_in_the_table_and_metrics_are_those_of_one_process(by_one_and_two, name, part) -> None:
    one, two = (by_one_and_two / name / number for number in ("one", "two"))
    rows = {folder: table(folder / f"evaluation_{part}.csv") for folder in (one, two)}
    assert list(rows[one]) == list(rows[two])
    assert len([case for case in rows[two] if case.startswith("LIDC")]) == CASES[part]
    for case, row in rows[one].items():
        found = {column: float(value) for column, value in rows[two][case].items() if column != "case"}
        expected = {column: float(value) for column, value in row.items() if column != "case"}
        assert found == pytest.approx(expected, rel=1e-5, abs=1e-6, nan_ok=True), case  # 6 digits
    metrics = [json.loads((folder / f"metrics_{part}.json").read_text()) for folder in (one, two)]
    assert metrics[0].keys() == metrics[1].keys()
    for key, expected in metrics[0].items():
        assert metrics[1][key] == pytest.approx(expected, abs=1e-6, nan_ok=True), key


@pytest.mark.parametrize("number", CASES.values())
def test_predictions_of_both_lie_in_one_folder(by_one_and_two, number) -> None:
    """The same files with the same bytes."""
    one, two = (by_one_and_two / "ssn" / each / f"predictions_{number}" for each in ("one", "two"))
    files = {path.name: path.read_bytes() for path in one.iterdir()}
    assert {path.name: path.read_bytes() for path in two.iterdir()} == files
    assert len([name for name in files if name.endswith("_samples.nii.gz")]) == number
    assert len(table(two / "volumes.csv")) == number


def test_a_training_goes_on_in_another_number_of_processes(crops, by_one_and_two) -> None:
    """Begun by one process, continued by two nodes, ended by one process."""
    output = by_one_and_two / "training"
    by_two = last_state(output)
    assert (by_two["trainer"]["iteration"], by_two["trainer"]["epoch_length"]) == (4, 2)
    assert not any(name.startswith("module.") for name in by_two["network"])
    run_workflow("ssn_lidc", **training(crops, output, max_epochs=3, resume=True))
    by_one = last_state(output)
    assert (by_one["trainer"]["iteration"], by_one["trainer"]["epoch_length"]) == (12, 4)
    assert by_one["optimizer"]["state"][0]["step"] == 4 + 2 + 4  # its moments came along


def test_all_end_when_one_is_killed_and_say_which(by_one_and_two) -> None:
    output = by_one_and_two / "killed"
    assert float((output / "seconds").read_text()) < 60
    printed = [(output / f"node_{rank}.log").read_text() for rank in range(2)]
    assert "This run ends, for rank 1, process " in printed[0]
    assert "rank      : 1" in printed[1]  # torchrun's own summary, of its machine
    assert "SIGKILL" in printed[1]
    assert last_state(output)["trainer"]["iteration"] % 2 == 0  # whole epochs


@pytest.mark.slow
@pytest.mark.parametrize(("rank", "number"), [(0, signal.SIGKILL), (1, signal.SIGSTOP)])
def test_all_end_when_one_is_gone_in_any_way(crops, make_output, rank, number) -> None:
    """The first one, and one that does not answer although its connections are open, as without power."""
    output = Path(make_output())
    kill([], crops, output, rank, number)
    assert float((output / "seconds").read_text()) < 60
    assert f"This run ends, for rank {rank}" in (output / f"node_{1 - rank}.log").read_text()


@pytest.mark.slow
def test_a_benchmark_of_two_nodes(crops, tmp_path) -> None:
    """Two methods and the floor, on three test cases."""
    ids = {"max_epochs": 1, "val_interval": 1, "images_per_epoch": 4, "batch_size": 2, "channels": [2, 4]}
    command = ["-m", "monai_stochseg", "benchmark", "--methods", "ssn", "--dataset_dir", crops, "--ids", str(ids)]
    with nodes([*command, "--out", str(tmp_path / "results")], tmp_path) as both:
        assert both.wait(400) == [0, 0], both.printed()
    (evaluation,) = (tmp_path / "results").glob("seed_0/ssn/evaluation.json")
    assert len(json.loads(evaluation.read_text())["cases"]["patient"]) == CASES["test"]
    assert (tmp_path / "results" / "benchmark.md").is_file()
