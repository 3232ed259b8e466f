# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from monai_stochseg.data import brats_datalist, simulated_brain_folder
from monai_stochseg.data.simulated import brain_folder as module
from monai_stochseg.data.simulated import cases as simulated_cases
from monai_stochseg.data.simulated import simulate_brain
from monai_stochseg.transforms import LoadCased


@pytest.mark.parametrize("size", [(16, 20), (16, 20, 18)])
def test_round_trip(tmp_path, size) -> None:
    folder = simulated_brain_folder(tmp_path / "new" / "simulated", 2, size, seed=5, num_raters=3)
    truth = json.loads(Path(folder, "truth.json").read_text())["patients"]
    cases = brats_datalist(folder, ("t2", "flair"))
    assert [case["patient"] for case in cases] == list(truth)
    for case in cases:
        expected = truth[case["patient"]]
        brain = simulate_brain(size, expected["seed"], num_raters=3)
        assert (expected["sigma"], expected["rim_probability"]) == (brain.sigma, brain.rim_probability)
        loaded = LoadCased()(case)
        assert torch.equal(loaded["image"].as_tensor(), brain.image[[3, 0]])
        assert torch.equal(loaded["label"].as_tensor(), brain.label)
        assert torch.equal(loaded["mask"].as_tensor(), brain.mask)
    image = nib.load(Path(folder, "simulated_001", "rater02.nii.gz"))
    assert image.get_data_dtype() == np.uint8
    assert np.array_equal(image.affine, np.eye(4))


def test_patient_does_not_depend_on_their_number(tmp_path) -> None:
    few, many = (simulated_brain_folder(tmp_path / f"{n}", n, (16, 16)) for n in (1, 2))
    seeds = [json.loads(Path(f, "truth.json").read_text())["patients"]["simulated_000"]["seed"] for f in (few, many)]
    assert seeds[0] == seeds[1]


def test_reused_and_not_replaced(tmp_path) -> None:
    folder = Path(simulated_brain_folder(tmp_path / "simulated", 1, (16, 16)))
    before = (folder / "truth.json").stat().st_mtime_ns
    simulated_brain_folder(folder, 1, (16, 16))
    assert (folder / "truth.json").stat().st_mtime_ns == before
    with pytest.raises(
        FileExistsError, match=r"simulated was simulated with .*; name another folder, or remove this one"
    ):
        simulated_brain_folder(folder, 1, (16, 16), seed=1)
    assert json.loads((folder / "truth.json").read_text())["parameters"]["seed"] == 0
    assert {path.name for path in tmp_path.iterdir()} <= {"simulated", ".simulated.lock"}


def test_interruption_leaves_nothing(tmp_path, monkeypatch) -> None:
    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(module, "simulate_brain", interrupt)
        with pytest.raises(KeyboardInterrupt):
            simulated_brain_folder(tmp_path / "simulated", 1, (16, 16))
    assert {path.name for path in tmp_path.iterdir()} <= {".simulated.lock"}
    assert len(brats_datalist(simulated_brain_folder(tmp_path / "simulated", 1, (16, 16)))) == 1


def test_processes_at_once_make_it_once(tmp_path, monkeypatch) -> None:
    code = (
        "import sys\n"
        "from monai_stochseg.data.simulated import brain_folder as module, cases\n"
        "make = cases._make\n"
        "cases._make = lambda *args: (print('made'), make(*args))\n"
        "print('ready', flush=True)\n"
        "module.simulated_brain_folder(sys.argv[1], 8, (24, 24, 24))\n"
    )
    made = []
    make = simulated_cases._make
    monkeypatch.setattr(simulated_cases, "_make", lambda *args: (made.append("made\n"), make(*args)))
    folder = tmp_path / "simulated"
    with subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "ready\n"
        simulated_brain_folder(folder, 8, (24, 24, 24))
        assert len(brats_datalist(folder)) == 8
        assert [*made, *other.stdout] == ["made\n"]
    assert other.returncode == 0


def test_refuses(tmp_path) -> None:
    with pytest.raises(ValueError, match="num_patients must be at least 1, got 0"):
        simulated_brain_folder(tmp_path / "simulated", 0, (16, 16))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    with pytest.raises(FileExistsError, match="mine exists and holds no simulated patients; name another folder"):
        simulated_brain_folder(tmp_path / "mine", 1, (16, 16))
    assert (tmp_path / "mine" / "thesis.txt").exists()
