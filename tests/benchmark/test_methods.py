# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path

import pytest

from monai_stochseg.benchmark import BenchmarkError, find_methods
from monai_stochseg.benchmark.methods import check_ids

BASELINES = ["deterministic", "threshold", "independent", "tta", "dropout", "ensemble", "mheads", "image2image_vae"]


def join(folder: Path, name: str, benchmark: str | None = None) -> None:
    """A bundle in the working folder."""
    bundle = folder / "bundles" / name
    bundle.mkdir(parents=True)
    (bundle / "train.json").write_text("{}")
    if benchmark is not None:
        (bundle / "benchmark.json").write_text(benchmark)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("chosen", "names"),
    [
        (["baselines_lidc"], BASELINES),
        (["threshold", "ssn_lidc"], ["threshold", "ssn", "ssn_diagonal"]),
        (["ssn_diagonal", "ssn_lidc", "probunet"], ["ssn_diagonal", "ssn", "probunet"]),
    ],
)
def test_methods_and_bundles_by_name(chosen, names) -> None:
    assert [method.name for method in find_methods("lidc", chosen)] == names


def test_all_methods() -> None:
    methods = {method.name: method for method in find_methods("lidc")}
    assert {*BASELINES, "ssn", "ssn_diagonal", "probunet"} <= methods.keys()
    assert methods["ssn_diagonal"].ids == {"diagonal": True}
    assert methods["ssn"].trained is methods["ssn"]
    for name in ("deterministic", "independent", "tta"):
        assert methods[name].trained == methods["threshold"]
        assert methods[name].ids == {"method": name}


def test_a_bundle_takes_part_by_its_file(tmp_path) -> None:
    join(tmp_path, "mine_lidc")
    join(tmp_path, "two_lidc", json.dumps({"a": {}, "b": {"trained_as": "a", "ids": {"n": 1}}}))
    join(tmp_path, "away_brats", json.dumps({"away": {}}))
    methods = {method.name: method for method in find_methods("lidc")}
    assert methods["b"].trained == methods["a"]
    assert {"ssn", "away"} <= methods.keys()
    assert "mine_lidc" not in {method.folder.name for method in methods.values()}


def test_any_method_runs_on_any_task_by_an_overlay(repository) -> None:
    methods = find_methods("brats")
    assert {method.name for method in methods} == {method.name for method in find_methods("lidc")}
    for method in methods:
        train, overlay = method.files("brats")
        assert train == method.folder / "train.json"
        assert overlay == repository / "bundles" / "tasks" / "brats_whole.json"
    assert all(len(method.files("lidc")) == 1 for method in find_methods("lidc"))


def test_of_two_bundles_with_one_method_the_tasks_own_is_taken() -> None:
    folders = {task: find_methods(task, ["mose"])[0].folder.name for task in ("lidc", "brats", "cityscapes")}
    assert folders == {"lidc": "mose_lidc", "brats": "mose_lidc", "cityscapes": "mose_cityscapes"}


def test_a_bundle_of_the_working_folder_comes_first(tmp_path) -> None:
    join(tmp_path, "probunet_lidc", json.dumps({"probunet": {}}))
    (method,) = find_methods("lidc", ["probunet_lidc"])
    assert (method.name, method.folder) == ("probunet", tmp_path / "bundles" / "probunet_lidc")


@pytest.mark.parametrize(
    ("task", "chosen", "message"),
    [
        ("brain", None, "task must be one of lidc, brats, cityscapes, or a plan.json, got 'brain'"),
        ("lidc", ["ssn", "sssn"], "no method or bundle 'sssn': the methods are .*probunet.*, the bundles .*ssn_lidc"),
    ],
)
def test_unknown_names(task, chosen, message) -> None:
    with pytest.raises(BenchmarkError, match=message):
        find_methods(task, chosen)


@pytest.mark.parametrize(
    ("benchmark", "message"),
    [
        ("{", "benchmark.json is no JSON"),
        ('{"a": {"id": {}}}', r"a may have ids and trained_as, but has \['id'\]"),
        ('{"a": {"trained_as": "b"}}', "a is trained as 'b', which is no method with its own training"),
        ('{"a": {"trained_as": "a"}}', "a is trained as 'a', which is no method with its own training"),
        ('{"ssn": {}}', "there is another method 'ssn'"),
        ('{"readers": {}}', "there is another method 'readers'"),
    ],
)
def test_refuses(tmp_path, benchmark, message) -> None:
    join(tmp_path, "mine_lidc", benchmark)
    with pytest.raises(BenchmarkError, match=message):
        find_methods("lidc")


def test_ids() -> None:
    methods = find_methods("lidc")
    ids = {"max_epochs": 1, "rank": 2, "options#num_workers": 1, "validate::evaluator::figure": {}}
    check_ids("lidc", methods, [], ids)
    for name in ("max_epoch", "trian#trainer#amp", "output_dir"):
        with pytest.raises(
            BenchmarkError, match=f"no bundle has an id '{name.split('#')[0]}' to be set; .*'max_epochs'"
        ):
            check_ids("lidc", methods, [], {name: 1})
