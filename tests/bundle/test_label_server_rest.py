# SPDX-License-Identifier: Apache-2.0
"""A real server of MONAI Label on this machine, asked about real patients."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from bundle_runs import run_workflow
from test_packed_bundles import untrained_output
from tiny import HOME

from monai_stochseg.bundle.pack import pack

MODALITIES = {"flair": "Flair_subtrMeanDivStd.nii.gz", "t1ce": "T1c_subtrMeanDivStd.nii.gz"}

pytestmark = pytest.mark.slow


@pytest.fixture
def patients(real_data, tmp_path) -> dict[str, Path]:
    """Two real patients, 0 outside the brain: in a folder of BraTS, and in one file each, as MONAI Label has them."""
    found = {}
    (tmp_path / "studies").mkdir()
    for folder in sorted((real_data / "brats2015" / "validation").iterdir()):
        name = folder.name
        brain = np.asarray(nib.load(folder / "brainmask.nii.gz").dataobj) > 0
        (tmp_path / "brats" / name).mkdir(parents=True)
        channels = []
        for modality, file in MODALITIES.items():
            image = nib.load(folder / file)
            channels.append(np.where(brain, image.get_fdata(dtype=np.float32), 0))
            nib.save(
                nib.Nifti1Image(channels[-1], image.affine), tmp_path / "brats" / name / f"{name}_{modality}.nii.gz"
            )
        found[name] = tmp_path / "studies" / f"{name}.nii.gz"
        nib.save(nib.Nifti1Image(np.stack(channels, -1), image.affine), found[name])
    return found


@pytest.fixture
def bundle(tmp_path, patients) -> str:
    sizes = {"roi_size": [64] * 3, "patch_size": [16] * 3, "modalities": ["flair", "t1c"]}
    ids = {**HOME["ssn_brats"], **sizes, "dataset_dir": str(tmp_path / "brats"), "covariance_init": "$None"}
    return pack(untrained_output(tmp_path / "output", "ssn_brats", ids), str(tmp_path / "tumours"))


@pytest.fixture
def server(tmp_path, bundle) -> Iterator[str]:
    pytest.importorskip("monailabel")
    app = tmp_path / "app"
    app.mkdir()
    (app / "main.py").write_text((Path(__file__).parent / "label_app" / "main.py").read_text())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "monailabel.main", "start_server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--app", str(app), "--studies", str(tmp_path / "studies"), "--conf", "bundle", bundle]
    with (tmp_path / "server.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=tmp_path)
    try:
        address = f"http://127.0.0.1:{port}"
        for _ in range(240):
            assert process.poll() is None, (tmp_path / "server.log").read_text()[-3000:]
            try:
                urllib.request.urlopen(f"{address}/info/", timeout=30).read()
                break
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.5)
        yield address
    finally:
        process.terminate()
        process.wait(timeout=30)


def post(url: str, **form: str) -> bytes:
    request = urllib.request.Request(url, urllib.parse.urlencode(form).encode(), method="POST")
    content: bytes = urllib.request.urlopen(request, timeout=300).read()
    return content


def get(url: str) -> Any:
    return json.loads(urllib.request.urlopen(url, timeout=30).read())


def wait_for_scores(server: str, images: Collection[str], seconds: float = 300) -> dict[str, float]:
    """
    The scores of all images: the server starts their scoring in another process as it comes up, and answers 429 to
    whoever asks for one more meanwhile.
    """
    end = time.monotonic() + seconds
    while (status := get(f"{server}/scoring/"))["status"] not in ("DONE", "ERROR") and time.monotonic() < end:
        time.sleep(1)
    assert status["status"] == "DONE", status
    while time.monotonic() < end:  # the server reads what that process wrote a moment later
        infos = {image: get(f"{server}/datastore/image/info?image={image}") for image in images}
        if all("sample_diversity" in info for info in infos.values()):
            return {image: info["sample_diversity"] for image, info in infos.items()}
        time.sleep(1)
    raise AssertionError(f"no scores in {infos}")


def test_the_server_answers_as_the_bundle(server, bundle, patients, tmp_path) -> None:
    name, file = next(iter(patients.items()))
    params = json.dumps({"device": "cpu", "result_extension": ".nii.gz"})
    (tmp_path / "answer.nii.gz").write_bytes(post(f"{server}/infer/tumours?image={name}&output=image", params=params))
    answer = nib.load(tmp_path / "answer.nii.gz")
    given = {"dataset_dir": str(tmp_path / "brats"), "device": "cpu", "eval_samples": 1, "max_cases": 1}
    given |= {"save_probabilities": False}
    run_workflow(files=[f"{bundle}/configs/inference.json"], **given, prediction_dir=str(tmp_path / "own"))
    expected = nib.load(tmp_path / "own" / f"{name}_mode.nii.gz")
    assert answer.shape == expected.shape == nib.load(file).shape[:3]
    np.testing.assert_allclose(answer.affine, expected.affine)
    assert len(np.unique(expected.dataobj)) > 1
    assert np.array_equal(np.asarray(answer.dataobj), np.asarray(expected.dataobj))

    scores = wait_for_scores(server, patients)
    assert all(0 < score <= 1 for score in scores.values())
    chosen = json.loads(post(f"{server}/activelearning/most_diverse"))
    assert chosen["id"] == max(scores, key=lambda image: scores[image])
    assert chosen["sample_diversity"] == max(scores.values()) > min(scores.values())
