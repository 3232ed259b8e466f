# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from monai_stochseg.data.simulated.cases import make_cases, save_voxels


def make_case(path: Path, seed: int) -> dict[str, int]:
    (path / "seed.txt").write_text(str(seed))
    return {"twice": 2 * seed}


def interrupt(path: Path, seed: int) -> dict[str, int]:
    raise KeyboardInterrupt


def parameters(num_patients: int = 2, seed: int = 0) -> dict[str, int]:
    return {"num_patients": num_patients, "seed": seed}


def test_records_each_patient(tmp_path) -> None:
    folder = Path(make_cases(tmp_path / "new" / "cases", parameters(), make_case))
    truth = json.loads((folder / "truth.json").read_text())
    assert truth["parameters"] == parameters()
    assert list(truth["patients"]) == ["simulated_000", "simulated_001"]
    for patient, found in truth["patients"].items():
        assert (folder / patient / "seed.txt").read_text() == str(found["seed"])
        assert found["twice"] == 2 * found["seed"]
    fewer = Path(make_cases(tmp_path / "fewer", parameters(1), make_case))
    assert (fewer / "simulated_000" / "seed.txt").read_text() == str(truth["patients"]["simulated_000"]["seed"])


def test_reused_and_not_replaced(tmp_path) -> None:
    """A run may be reading the folder that another one asks for with other arguments."""
    folder = make_cases(tmp_path / "cases", parameters(), make_case)
    assert make_cases(folder, parameters(), interrupt) == folder
    with pytest.raises(
        FileExistsError, match=r"simulated with .*'seed': 0.*, not .*'seed': 1.*; name another folder, or"
    ):
        make_cases(folder, parameters(seed=1), make_case)
    assert json.loads(Path(folder, "truth.json").read_text())["parameters"] == parameters()
    assert {path.name for path in tmp_path.iterdir()} <= {"cases", ".cases.lock"}


def test_interruption_leaves_what_was_there(tmp_path) -> None:
    with pytest.raises(KeyboardInterrupt):
        make_cases(tmp_path / "cases", parameters(), interrupt)
    assert {path.name for path in tmp_path.iterdir()} <= {".cases.lock"}
    assert Path(make_cases(tmp_path / "cases", parameters(), make_case), "truth.json").is_file()


def test_saves_millimetres(tmp_path) -> None:
    save_voxels(tmp_path / "a.nii.gz", np.zeros((2, 3, 4), np.int16), np.diag([2.0, 3.0, 4.0, 1.0]))
    image = nib.load(tmp_path / "a.nii.gz")
    assert image.header.get_zooms() == (2, 3, 4)
    assert image.header.get_xyzt_units()[0] == "mm"


def test_refuses(tmp_path) -> None:
    with pytest.raises(ValueError, match="num_patients must be at least 1, got 0"):
        make_cases(tmp_path / "cases", parameters(0), make_case)
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(FileExistsError, match="exists and holds no simulated patients; name another folder"):
        make_cases(tmp_path, parameters(), make_case)
    assert (tmp_path / "thesis.txt").exists()


def test_what_a_user_added_is_left_alone(tmp_path) -> None:
    folder = Path(make_cases(tmp_path / "cases", parameters(), make_case))
    (folder / "case_00000").mkdir()
    assert make_cases(folder, parameters(), interrupt) == str(folder)
    assert (folder / "case_00000").exists()
