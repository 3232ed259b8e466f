# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path

import pytest

from monai_stochseg.benchmark import BenchmarkError, find_methods
from monai_stochseg.benchmark.methods import check_ids

BASELINES = ["deterministic", "threshold", "independent", "dropout", "ensemble", "mheads", "image2image_vae"]


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
    for name in ("deterministic", "independent"):
        assert methods[name].trained == methods["threshold"]
        assert methods[name].ids == {"method": name}


def test_a_bundle_joins_by_its_name(tmp_path) -> None:
    join(tmp_path, "mine_lidc")
    join(tmp_path, "other_brats")
    join(tmp_path, "two_lidc", json.dumps({"a": {}, "b": {"trained_as": "a", "ids": {"n": 1}}}))
    methods = {method.name: method for method in find_methods("lidc")}
    assert methods["mine_lidc"].folder == tmp_path / "bundles" / "mine_lidc"
    assert methods["b"].trained == methods["a"]
    assert "ssn" in methods
    assert "other_brats" not in methods


def test_a_bundle_of_the_working_folder_comes_first(tmp_path) -> None:
    join(tmp_path, "probunet_lidc")
    (method,) = find_methods("lidc", ["probunet_lidc"])
    assert (method.name, method.folder) == ("probunet_lidc", tmp_path / "bundles" / "probunet_lidc")


def test_a_bundle_without_a_method_takes_no_part(tmp_path) -> None:
    without = find_methods("lidc")
    join(tmp_path, "mine_lidc", "{}")
    assert find_methods("lidc") == without
    assert "msvls_lidc" not in {method.folder.name for method in without}
    for name in ("mine_lidc", "msvls_lidc"):
        with pytest.raises(BenchmarkError, match=f"^bundle '{name}' names no method in its benchmark.json"):
            find_methods("lidc", ["ssn", name])


@pytest.mark.parametrize(
    ("task", "chosen", "message"),
    [
        ("brats", None, "task must be one of lidc, got 'brats'"),
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
    check_ids(
        methods, [], {"max_epochs": 1, "rank": 2, "train#trainer#num_workers": 1, "validate::evaluator::amp": False}
    )
    for name in ("max_epoch", "trian#trainer#amp", "output_dir"):
        with pytest.raises(
            BenchmarkError, match=f"no bundle has an id '{name.split('#')[0]}' to be set; .*'max_epochs'"
        ):
            check_ids(methods, [], {name: 1})
