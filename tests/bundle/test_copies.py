# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import subprocess
import sys

import pytest

from monai_stochseg.__main__ import main
from monai_stochseg.bundle.copies import bundle


def test_a_copy_has_all_that_a_run_needs(tmp_path, monkeypatch, capsys, repository) -> None:
    monkeypatch.chdir(tmp_path)
    main(["bundle", "ssn_lidc"])
    assert capsys.readouterr().out == "python -m monai.bundle run --config_file bundles/ssn_lidc/train.json\n"
    for name in ("ssn_lidc/train.json", "ssn_lidc/paper.json", "evaluate.json", "tasks/brats.json"):
        assert (tmp_path / "bundles" / name).read_bytes() == (repository / "bundles" / name).read_bytes()
    assert all(path.is_file() for path in (tmp_path / "bundles" / "ssn_lidc").iterdir())


def test_a_second_bundle_joins_the_first(tmp_path) -> None:
    bundle("ssn_lidc", str(tmp_path))
    (tmp_path / "evaluate.json").write_text("mine")
    bundle("mose_lidc", str(tmp_path))
    assert (tmp_path / "mose_lidc" / "train.json").is_file()
    assert (tmp_path / "evaluate.json").read_text() == "mine"


def test_what_is_there_stays(tmp_path) -> None:
    (tmp_path / "ssn_lidc").mkdir()
    with pytest.raises(FileExistsError, match="ssn_lidc is there already"):
        bundle("ssn_lidc", str(tmp_path))
    assert not list((tmp_path / "ssn_lidc").iterdir())


def test_an_unknown_name_lists_those_there_are(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no bundle 'ssn'; there are baselines_lidc, car_lidc, "):
        bundle("ssn", str(tmp_path))
    assert not list(tmp_path.iterdir())


def test_an_installed_package_holds_the_bundles(tmp_path, repository) -> None:
    """As in a wheel: the package alone, and an empty working folder."""
    built, working = tmp_path / "built", tmp_path / "working"
    working.mkdir()
    command = [sys.executable, "setup.py", "-q", "egg_info", "-e", str(tmp_path), "build_py", "-d", str(built)]
    subprocess.run(command, cwd=repository, check=True, capture_output=True)
    assert not list(built.glob("monai_stochseg/_bundles/*/output*"))
    script = (
        f"import sys; sys.path.insert(0, {str(built)!r})\n"
        "from monai_stochseg.__main__ import main; main(['bundle', 'ssn_brats'])"
    )
    shown = subprocess.run([sys.executable, "-c", script], cwd=working, capture_output=True, text=True, check=True)
    assert shown.stdout.endswith("bundles/ssn_brats/train.json\n")
    for file in (repository / "bundles" / "ssn_brats").iterdir():
        if file.is_file() and not file.name.startswith("."):
            assert (working / "bundles" / "ssn_brats" / file.name).read_bytes() == file.read_bytes()
