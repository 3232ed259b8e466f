# SPDX-License-Identifier: Apache-2.0
"""A bundle works where its configuration file lies, from wherever and however it is run."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from bundle_runs import BUNDLES, config_files, run_command
from monai.bundle import ConfigWorkflow, create_workflow

from monai_stochseg.bundle import find_bundle


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A copy of a bundle under another name, and the common overlays beside it."""
    folder = tmp_path / "elsewhere" / "mine"
    shutil.copytree(BUNDLES / "ssn_brats", folder, ignore=shutil.ignore_patterns("data", "output*"))
    shutil.copytree(BUNDLES / "tasks", folder.parent / "tasks")
    shutil.copy(BUNDLES / "evaluate.json", folder.parent)
    return folder


def listings(copied: Path) -> list[list[str]]:
    train, evaluate = str(copied / "train.json"), str(BUNDLES / "evaluate.json")
    return [
        [train],
        [str(copied / "inference.json")],
        [train, str(copied / "paper.json")],
        [train, str(BUNDLES / "tasks" / "kits.json"), evaluate],  # of other folders
    ]


def test_a_copy_works_in_its_copy(copied, monkeypatch):
    for folder in (BUNDLES.parent, copied, copied.parent):
        monkeypatch.chdir(folder)
        for files in listings(copied):
            workflow = ConfigWorkflow([os.path.relpath(file) for file in files], logging_file=False)
            workflow.initialize()
            monkeypatch.chdir("/")
            assert workflow.parser.get_parsed_content("bundle_root") == str(copied)
            assert workflow.parser.get_parsed_content("output_dir").startswith(str(copied))
            monkeypatch.chdir(folder)


def test_two_workflows_have_their_own(copied):
    files = ([str(copied / "train.json")], config_files("ssn_lidc"))
    workflows = [ConfigWorkflow(each, logging_file=False) for each in files]
    for workflow in workflows:
        workflow.initialize()
    roots = [workflow.parser.get_parsed_content("bundle_root") for workflow in workflows]
    assert roots == [str(copied), str(BUNDLES / "ssn_lidc")]


def test_of_a_workflow_that_monai_makes(copied):
    workflow = create_workflow(config_file=str(copied / "train.json"), workflow_type="train", logging_file=False)
    assert workflow.bundle_root == str(copied)


def test_of_the_command_line_where_there_is_no_workflow(copied, monkeypatch):
    """As in ``monai.bundle verify_net_in_out``."""
    for files in (repr([str(copied / "train.json"), str(BUNDLES / "evaluate.json")]), str(copied / "train.json")):
        monkeypatch.setattr(sys, "argv", ["/x/monai/bundle/__main__.py", "verify_net_in_out", "--config_file", files])
        assert find_bundle("ssn_brats") == str(copied)
    arguments = copied / "arguments.json"
    arguments.write_text(json.dumps({"config_file": str(copied / "train.json")}))
    monkeypatch.setattr(sys, "argv", ["/x/monai/bundle/__main__.py", "run", "--args_file", str(arguments)])
    assert find_bundle("ssn_brats") == str(copied)


def test_a_folder_of_monais_layout(copied):
    (copied / "configs").mkdir()
    shutil.move(copied / "train.json", copied / "configs")
    workflow = ConfigWorkflow(str(copied / "configs" / "train.json"), logging_file=False)
    workflow.initialize()
    assert workflow.parser.get_parsed_content("bundle_root") == str(copied)


def test_a_copy_writes_nothing_into_the_original(copied, tmp_path):
    """By the command line, up to the error of a training that cannot be."""
    before = {path: path.stat().st_mtime_ns for path in (BUNDLES / "ssn_brats").rglob("*")}
    options = ["--simulated_patients", "3", "--simulated_size", "[16, 16, 16]", "--patch_size", "[64, 64, 64]"]
    config = os.path.relpath(copied / "train.json", tmp_path)
    done = run_command(["-m", "monai.bundle", "run", "--config_file", config, *options], tmp_path)
    assert "larger than the image" in done.stderr.strip().splitlines()[-1]
    assert (copied / "data").is_dir()
    assert {path: path.stat().st_mtime_ns for path in (BUNDLES / "ssn_brats").rglob("*")} == before
