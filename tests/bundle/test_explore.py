# SPDX-License-Identifier: Apache-2.0
"""Folders that the inference of bundles writes, explored; and cases that are predicted when they are opened."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import nibabel as nib
import numpy as np
import pytest
import torch
from browser import Page, chromium
from browser import served as served_folder
from bundle_runs import BUNDLES, config_files, make_workflow, run_workflow
from tiny import HOME, HOME_TASK, RUN, TASKS

from monai_stochseg.__main__ import main
from monai_stochseg.data import CaseError
from monai_stochseg.explore.live import LiveFolder
from monai_stochseg.explore.opened_case import OpenedCase
from monai_stochseg.explore.prediction_folder import PredictionFolder
from monai_stochseg.explore.session import Session
from monai_stochseg.explore.summary import describe_case, summarise


def settings_of(edit: dict[str, Any]) -> dict[str, Any]:
    """A first choice of each kind of editor."""
    return {
        "ssn": lambda: {"sample": 1, "class_scale": [1] * len(edit["classes"]), "rank_scale": [1] * edit["rank"]},
        "latent": lambda: {"axes": [0, 1], "values": [0.0, 0.0]},
        "experts": lambda: {"expert": 1},
        "code": lambda: {"seeds": [0, 1], "position": 0.25},
    }[edit["kind"]]()


@pytest.fixture
def untrained(folders, tmp_path):
    """A bundle's ids at tiny size with a checkpoint of its first weights."""

    def make(name: str, task: str | None = None) -> dict[str, Any]:
        ids = {**RUN, **HOME[name], **({} if task is None else TASKS[task])}
        ids |= {"dataset_dir": folders[task or HOME_TASK[name]], "output_dir": str(tmp_path / "output")}
        options = {key: value for key, value in ids.items() if key in _ids(name, task)}
        overlay = [] if task is None else [f"tasks/{task}"]
        files = config_files(name, *overlay) if overlay else config_files(name, base="inference")
        workflow = make_workflow(files=config_files(name, *overlay), **ids)
        network = workflow.parser.get_parsed_content("network_def")
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        checkpoint = tmp_path / f"{name}.pt"
        torch.save({"network": network.state_dict()}, checkpoint)
        return {"config_file": files, "checkpoint": str(checkpoint), "ids": options}

    return make


def _ids(name: str, task: str | None) -> set[str]:
    overlay = BUNDLES / "tasks" / f"{task}.json"
    files = [BUNDLES / name / "train.json", overlay] if task else [BUNDLES / name / "inference.json"]
    return {key for file in files for key in json.loads(file.read_text())}


KINDS = {
    "ssn_brats": "ssn",
    "ssn_lidc": "ssn",
    "probunet_lidc": "latent",
    "mose_lidc": "experts",
    "car_lidc": "code",
    "phiseg_lidc": None,
    "svls_brats": None,
}


@pytest.mark.parametrize("name", KINDS)
def test_a_case_is_predicted_and_changed(untrained, tmp_path, name) -> None:
    given = untrained(name)
    folder = LiveFolder(tmp_path / "live", **{**given, "ids": {**given["ids"], "max_cases": 2}})
    session = Session(folder)
    listed = session.cases()
    assert (listed["live"], len(listed["cases"])) == (True, 2)
    case = session.describe(1)
    assert len(case["readers"]) >= 1
    assert case["channels"]
    kind = KINDS[name]
    if kind is None:
        assert case["edit"] is None
        assert case["edit_message"].startswith("There are no controls")
        return
    assert case["edit"]["kind"] == kind
    opened, labels, volumes = session.edit(1, json.dumps(settings_of(case["edit"])))
    assert labels.shape == (np.prod(opened.shape),)
    assert len(volumes) == len(case["structures"])
    if kind == "ssn":
        np.testing.assert_array_equal(labels, session.label_map(1, "sample-1")[1])
        assert volumes == pytest.approx(case["samples"][1]["volumes"])
    if kind == "latent":
        np.testing.assert_array_equal(labels, session.label_map(1, "answer")[1])
    with pytest.raises(CaseError, match="settings"):
        session.edit(1, "{}")


def test_live_predictions_are_those_of_the_inference(untrained, tmp_path) -> None:
    """The first case: a later one has another seed, which its record says, and its sample is found again by it."""
    given = untrained("ssn_brats")
    checkpoint = {"checkpoint": given["checkpoint"], "max_cases": 2}
    run_workflow(files=given["config_file"], **given["ids"], **checkpoint, prediction_dir=str(tmp_path / "run"))
    live = LiveFolder(tmp_path / "live", **{**given, "ids": {**given["ids"], "max_cases": 2}})
    name = live.names()[0]
    one, other = OpenedCase(live.files(name)), OpenedCase(PredictionFolder(tmp_path / "run").files(name))
    assert one.layers == other.layers
    for layer in one.layers:
        np.testing.assert_array_equal(one.label_map(layer), other.label_map(layer))
    for each in one.heat_maps:
        np.testing.assert_array_equal(one.heat_map(each.id), other.heat_map(each.id))
    kept = LiveFolder(tmp_path / "run", **{**given, "ids": {**given["ids"], "max_cases": 2}})
    second = kept.names()[1]
    written = (tmp_path / "run" / f"{second}_samples.nii.gz").stat().st_mtime_ns
    opened = OpenedCase(kept.files(second))
    assert opened.record.noise_seed == other.record.noise_seed + 1
    editor = kept.editor(opened.files)
    found = editor.label_map(json.dumps(settings_of(editor.description())))
    np.testing.assert_array_equal(found, opened.label_map("sample-1"))
    assert (tmp_path / "run" / f"{second}_samples.nii.gz").stat().st_mtime_ns == written  # was not predicted again
    (tmp_path / "run" / f"{second}_prediction.json").unlink()
    table = (tmp_path / "run" / "volumes.csv").read_text()
    kept.files(second)
    assert (tmp_path / "run" / "volumes.csv").read_text() == table  # of both cases


def test_mutual_information_and_image_are_written(untrained, tmp_path) -> None:
    given = untrained("ssn_brats")
    common = {"checkpoint": given["checkpoint"], "max_cases": 1, **given["ids"]}
    run_workflow(files=given["config_file"], **common, prediction_dir=str(tmp_path / "run"))
    (name,) = PredictionFolder(tmp_path / "run").names()
    files = {file.name.removeprefix(f"{name}_") for file in (tmp_path / "run").glob(f"{name}_*")}
    assert {"image.nii.gz", "readers.nii.gz", "mutual_information.nii.gz", "prediction.json"} <= files
    entropy, information = (
        np.asarray(nib.load(tmp_path / "run" / f"{name}_{kind}.nii.gz").dataobj)
        for kind in ("entropy", "mutual_information")
    )
    assert (information >= 0).all()
    assert (information <= entropy + 1e-5).all()
    assert information.max() > 0
    source = next(Path(given["ids"]["dataset_dir"]).glob(f"{name}/*flair*"))
    image = nib.load(tmp_path / "run" / f"{name}_image.nii.gz")
    original = nib.load(source)
    np.testing.assert_allclose(np.asarray(image.dataobj)[..., 0], original.get_fdata(), rtol=1e-6)
    np.testing.assert_allclose(image.affine, original.affine)
    run_workflow(
        files=given["config_file"],
        **common,
        save_image=False,
        mutual_information=False,
        stack_samples=False,
        prediction_dir=str(tmp_path / "bare"),
    )
    assert not list((tmp_path / "bare").glob("*image*"))
    assert not list((tmp_path / "bare").glob("*mutual*"))
    case = OpenedCase(PredictionFolder(tmp_path / "bare").files(name))
    described = describe_case(case, summarise(case))
    assert (described["channels"], described["readers"], len(described["samples"])) == ([], [], 3)


def test_a_record_is_gone_while_the_files_of_its_case_are_replaced(untrained, tmp_path, monkeypatch) -> None:
    """And the records of other cases stay."""
    given = untrained("ssn_brats")
    common = {"checkpoint": given["checkpoint"], **given["ids"], "prediction_dir": str(tmp_path / "run")}
    run_workflow(files=given["config_file"], **common, max_cases=2)
    first, second = PredictionFolder(tmp_path / "run").names()

    def fail(*_: object) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr("monai_stochseg.bundle.saving.SaveNifti._save", fail)
    with pytest.raises(Exception, match=r"the disk is full|applying transform|eval"):
        run_workflow(files=given["config_file"], **common, max_cases=1)
    assert PredictionFolder(tmp_path / "run").names() == [second]
    assert first != second


def test_a_training_with_an_overlay_explores_another_task(untrained, tmp_path) -> None:
    given = untrained("ssn_lidc", "cityscapes")
    session = Session(LiveFolder(tmp_path / "live", **{**given, "ids": {**given["ids"], "max_cases": 1}}))
    session.cases()
    case = session.describe(0)
    assert case["channels"] == ["red", "green", "blue", "colour"]
    assert case["edit"]["kind"] == "ssn"
    assert (case["shape"], case["unit"]) == ([64, 32], "px")  # to the right, and up
    opened, labels, _ = session.edit(0, json.dumps(settings_of(case["edit"])))
    np.testing.assert_array_equal(labels, opened.label_map("sample-1"))


def test_one_image_by_its_files(untrained, folders, tmp_path) -> None:
    given = untrained("ssn_brats")
    patient = sorted(Path(folders["brats"]).glob("*_000*"))[0]
    files = [next(str(file) for file in patient.rglob(f"*{kind}*")) for kind in ("flair", "t1.", "t1c", "t2")]
    folder = LiveFolder(tmp_path / "live", **given, image=files)
    (name,) = folder.names()
    case = OpenedCase(folder.files(name))
    assert case.record.rater_weights == []
    whole = LiveFolder(tmp_path / "whole", **given)
    same = OpenedCase(whole.files(next(each for each in whole.names() if "000" in each)))
    np.testing.assert_array_equal(case.label_map("answer"), same.label_map("answer"))
    stacked = np.stack([np.asarray(nib.load(file).dataobj) for file in files], axis=-1)
    nib.save(nib.Nifti1Image(stacked, nib.load(files[0]).affine), tmp_path / "four.nii.gz")
    again = LiveFolder(tmp_path / "four", **given, image=str(tmp_path / "four.nii.gz"))
    four = OpenedCase(again.files("four"))
    np.testing.assert_array_equal(four.label_map("answer"), same.label_map("answer"))


def test_another_image_of_the_same_name_is_predicted_anew(untrained, folders, tmp_path) -> None:
    """Files are called flair.nii.gz in every patient's folder."""
    given = untrained("ssn_brats")
    images = []
    for patient in sorted(Path(folders["brats"]).glob("simulated_*"))[:2]:
        files = [next(str(file) for file in patient.rglob(f"*{kind}*")) for kind in ("flair", "t1.", "t1c", "t2")]
        folder = LiveFolder(tmp_path / "kept", **given, image=files)
        (name,) = folder.names()
        images.append(OpenedCase(folder.files(name)).channel(0))
    assert not np.array_equal(*images)


def test_a_network_that_failed_once_is_asked_again(untrained, tmp_path, monkeypatch) -> None:
    folder = LiveFolder(tmp_path / "live", **untrained("ssn_brats"))
    session = Session(folder)
    session.cases()
    forward = folder._predictor.network.forward

    def fail(*_: object) -> None:
        raise RuntimeError("not enough memory")

    monkeypatch.setattr(folder._predictor.network, "forward", fail)
    with pytest.raises(RuntimeError, match="not enough memory"):
        session.describe(0)
    monkeypatch.setattr(folder._predictor.network, "forward", forward)
    assert session.describe(0)["edit"]["kind"] == "ssn"
    monkeypatch.setattr(folder._predictor.network, "forward", fail)
    described = session.describe(0)  # its files are there
    assert (len(described["samples"]), described["edit"]) == (3, None)
    assert "the network failed" in described["edit_message"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"config_file": "absent.json"}, "config_file: there is no file absent.json"),
        ({"ids": {"unknown": 1}}, "ids: the configuration has no id 'unknown'"),
        ({"image": "absent.nii.gz"}, "image: there is no file .*absent.nii.gz"),
        ({"image": [__file__, __file__]}, "one a channel in the order flair, t1, t1c, t2; got 2 files"),
    ],
)
def test_what_cannot_be_predicted_is_said_at_the_start(untrained, tmp_path, changed, message) -> None:
    with pytest.raises(CaseError, match=message):
        LiveFolder(tmp_path / "live", **{**untrained("ssn_brats"), **changed})


def test_a_checkpoint_loads_weights_alone_and_of_this_network(untrained, tmp_path) -> None:
    given = untrained("ssn_brats")
    with pytest.raises(FileNotFoundError, match="no checkpoint at"):
        LiveFolder(tmp_path / "live", **{**given, "checkpoint": str(tmp_path / "absent.pt")})

    class Harmful:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "harm"),)

    torch.save({"network": Harmful()}, tmp_path / "harmful.pt")
    torch.save({"network": {"weight": torch.zeros(3)}}, tmp_path / "other.pt")
    for file, message in (("harmful.pt", "checkpoint: .*weights_only"), ("other.pt", "checkpoint: .*architecture")):
        with pytest.raises(CaseError, match=message):
            LiveFolder(tmp_path / "live", **{**given, "checkpoint": str(tmp_path / file)})
    assert not (tmp_path / "harm").exists()


def test_a_crop_of_lidc_is_no_image_by_its_file(untrained, tmp_path) -> None:
    with pytest.raises(CaseError, match="task LIDC reads no image by its file"):
        LiveFolder(tmp_path / "live", **untrained("ssn_lidc"), image=__file__)


@pytest.fixture(scope="module")
def browser():
    with chromium() as started:
        yield started


@pytest.mark.parametrize("name", ["ssn_brats", "probunet_lidc", "mose_lidc", "car_lidc"])
def test_a_person_changes_a_sample(untrained, browser, tmp_path, name) -> None:
    given = untrained(name)
    folder = LiveFolder(tmp_path / "live", **{**given, "ids": {**given["ids"], "max_cases": 1}})
    with served_folder(folder) as address:
        page = Page(browser, address)
        before = page.turn
        page.page.click("#edit-show")
        page.settle(before)
        assert page.body["overlay"] == "edit"
        first = page.text("#edit-volumes")
        if name == "ssn_brats":
            same = page.page.locator("#canvas").screenshot()
            page.slide("#edit-temperature", 0)
            page.slide("#edit-temperature", 3)
            assert page.text("#edit-volumes") != first
            assert page.page.locator("#canvas").screenshot() != same
            page.click("#edit-reset")
            assert page.text("#edit-volumes") == first
        elif name == "probunet_lidc":
            box = page.page.locator("#edit-plane").bounding_box()
            page.act(lambda: page.page.mouse.click(box["x"] + 0.9 * box["width"], box["y"] + 0.1 * box["height"]))
            assert page.text("#edit-values") != ""
        elif name == "mose_lidc":
            page.click("[data-expert='1']")
            page.click("#edit-draw")
        else:
            page.slide("#edit-position", 0.7)
        settings = json.loads(parse_qs(urlsplit(page.page.url).fragment)["edit"][0])
        with page.page.expect_download() as waiting:
            page.page.click("#export-shown")
        path = tmp_path / "edit.nii.gz"
        waiting.value.save_as(path)
        exported = np.asarray(nib.load(path).dataobj)
        _, labels, _ = session_of(folder).edit(0, json.dumps(settings))
        np.testing.assert_array_equal(exported.ravel(order="F"), labels)
        page.close()


def session_of(folder: LiveFolder) -> Session:
    session = Session(folder)
    session.cases()
    return session


@pytest.fixture
def served(untrained, tmp_path):
    """The command in a process of its own; its address."""
    given = untrained("ssn_lidc")
    words = ["--config_file", str(given["config_file"]), "--checkpoint", given["checkpoint"]]
    words += ["--ids", repr({**given["ids"], "max_cases": 2}), "--port", "0"]
    (tmp_path / "tmp").mkdir()
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(tmp_path / "tmp")}
    process = subprocess.Popen(
        [sys.executable, "-m", "monai_stochseg", "explore", *words],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a background job ignores it
    )
    line = next(line for line in process.stdout if line.startswith("explore: "))
    yield process, line.split()[1]
    process.kill()
    process.wait()


@pytest.mark.parametrize("way", [signal.SIGINT, signal.SIGTERM])
def test_the_command_serves_until_it_is_told_to_end(served, tmp_path, way) -> None:
    process, address = served
    assert address.startswith("http://127.0.0.1:")
    with urllib.request.urlopen(f"{address}api/cases", timeout=60) as answer:
        assert len(json.load(answer)["cases"]) == 2
    with urllib.request.urlopen(f"{address}api/cases/1", timeout=120) as answer:
        assert json.load(answer)["edit"]["kind"] == "ssn"
    (kept,) = Path(tmp_path, "tmp").glob("explore.*")
    process.send_signal(way)
    assert process.wait(60) == 0
    assert "Traceback" not in process.stderr.read()
    assert not kept.exists()


def test_bad_commands_are_one_line(tmp_path, capsys) -> None:
    (tmp_path / "empty").mkdir()
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = busy.getsockname()[1]
        commands = {
            "give prediction_dir": [],
            "checkpoint, image and ids": ["--prediction_dir", str(tmp_path), "--checkpoint", "x"],
            "is no folder": ["--prediction_dir", str(tmp_path / "absent")],
            f"port {port} is in use": ["--prediction_dir", str(tmp_path), "--port", str(port)],
            "cannot be served": ["--prediction_dir", str(tmp_path), "--host", "no.such.host.example", "--port", "0"],
            "port 99999 cannot be served": ["--prediction_dir", str(tmp_path), "--port", "99999"],
            "host must be the address": ["--prediction_dir", str(tmp_path), "--host", "0.0.0.0"],
            "There is no prediction in": [
                "--prediction_dir",
                str(tmp_path / "empty"),
                "--html",
                str(tmp_path / "x.html"),
            ],
        }
        for message, words in commands.items():
            with pytest.raises(SystemExit, match=message):
                main(["explore", *words])
    assert not (tmp_path / "x.html").exists()
