# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import monai_stochseg
from monai_stochseg.bundle.version import package_version

VERSION = {"monai_stochseg": monai_stochseg.__version__}


@pytest.fixture
def checkout(tmp_path, monkeypatch) -> Path:
    """A repository of one commit that the package seems to lie in."""
    package = tmp_path / "monai_stochseg"
    package.mkdir()
    (package / "__init__.py").write_text("")
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
        author = ["-c", "user.name=n", "-c", "user.email=e"]
        subprocess.run(["git", *author, *words], cwd=tmp_path, check=True)
    monkeypatch.setattr(monai_stochseg, "__file__", str(package / "__init__.py"))
    return package


def test_a_checkout_has_its_commit(checkout) -> None:
    shown = subprocess.run(["git", "rev-parse", "HEAD"], cwd=checkout, check=True, capture_output=True, text=True)
    assert package_version() == {**VERSION, "commit": shown.stdout.strip()}
    (checkout / "__init__.py").write_text("changed = True")
    assert package_version() == {**VERSION, "commit": f"{shown.stdout.strip()}-dirty"}


def test_an_installed_package_has_none(checkout, monkeypatch) -> None:
    """Also in an environment that lies in a repository of another project."""
    inner = checkout / "environment" / "monai_stochseg" / "__init__.py"
    inner.parent.mkdir(parents=True)
    monkeypatch.setattr(monai_stochseg, "__file__", str(inner))
    assert package_version() == VERSION


def test_without_git(checkout, monkeypatch) -> None:
    monkeypatch.setenv("PATH", str(checkout))
    assert package_version() == VERSION
