# SPDX-License-Identifier: Apache-2.0
"""Which code a run was made with."""

from __future__ import annotations

import subprocess
from importlib.metadata import version
from pathlib import Path

import monai_stochseg

__all__ = ["package_version", "run_versions"]


def package_version() -> dict[str, str]:
    """
    The package's version, and its commit where it runs from a git checkout; one with changes that are not committed
    ends in ``-dirty``.
    """
    found = {"monai_stochseg": monai_stochseg.__version__}
    repository = Path(monai_stochseg.__file__).resolve().parents[1]
    if (repository / ".git").exists():  # and not that of a folder above, which an environment may lie in
        commit = _git(repository, "rev-parse", "HEAD")
        changed = _git(repository, "status", "--porcelain", "--untracked-files=no")
        if commit:
            found["commit"] = commit + ("-dirty" if changed else "")
    return found


def run_versions() -> dict[str, str]:
    """:py:func:`package_version`, and the versions of MONAI, PyTorch and numpy, without the mark of a build."""
    return package_version() | {name: version(name).split("+")[0] for name in ("monai", "torch", "numpy")}


def _git(repository: Path, *words: str) -> str:
    """What git prints; nothing where it is not installed, or refuses."""
    try:
        done = subprocess.run(["git", "-C", str(repository), *words], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
