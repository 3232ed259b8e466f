# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path


def find_bundle(name: str) -> str:
    """
    The absolute folder of one of our bundles, wherever the command is started from.

    A configuration file does not know where it lies, and a relative ``bundle_root`` would put the output of a run that
    is started elsewhere into a new folder there.

    Args:
        name: the bundle's folder, for instance ``ssn_brats``.

    Raises:
        FileNotFoundError: when neither the working folder nor the package's repository holds the bundle.
    """
    repository = Path(__file__).resolve().parents[2]
    candidates = [Path.cwd() / "bundles" / name, repository / "bundles" / name, Path.cwd()]
    for folder in candidates:
        if folder.name == name and (folder / "train.json").is_file():
            return str(folder)
    raise FileNotFoundError(
        f"bundle {name} is in none of {[str(c) for c in candidates]}: start from the repository or set --bundle_root."
    )
