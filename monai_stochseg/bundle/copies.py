# SPDX-License-Identifier: Apache-2.0
"""``python -m monai_stochseg bundle``: the bundles of an installed package, in the working folder."""

from __future__ import annotations

import shutil
from pathlib import Path

__all__ = ["bundle", "bundles_folder"]

_SHARED = ("evaluate.json", "temperature.json", "tasks")


def bundles_folder() -> Path:
    """The folder of the package's own bundles: in its repository, or in the package where it is installed."""
    package = Path(__file__).resolve().parents[1]
    places = (package.parent / "bundles", package / "_bundles")
    found = next((place for place in places if (place / "evaluate.json").is_file()), None)
    if found is None:
        raise FileNotFoundError(f"the bundles are in neither of {[str(place) for place in places]}: install again.")
    return found


def bundle(name: str, out: str = "bundles") -> str:
    """
    Copy a bundle, for instance ``ssn_brats``, and what all bundles share: ``evaluate.json``, ``temperature.json`` and
    the tasks' overlays.

    Args:
        name: of the bundle.
        out: the folder that gets a folder of this name.

    Returns:
        The command that trains it.

    Raises:
        FileNotFoundError: if there is no such bundle; those there are are named.
        FileExistsError: if the folder has a bundle of this name already.

    """
    source = bundles_folder()
    known = sorted(file.parent.name for file in source.glob("*/train.json"))
    if name not in known:
        raise FileNotFoundError(f"there is no bundle {name!r}; there are {', '.join(known)}.")
    target = Path(out).expanduser() / name
    if target.exists():
        raise FileExistsError(f"{target} is there already: move it away, or give another --out.")
    files = [file for file in (source / name).iterdir() if file.is_file() and not file.name.startswith(".")]
    target.mkdir(parents=True)
    for file in files:
        shutil.copy(file, target)
    for shared in _SHARED:
        for file in sorted((source / shared).glob("*.json")) if (source / shared).is_dir() else [source / shared]:
            place = target.parent / file.relative_to(source)
            place.parent.mkdir(exist_ok=True)
            if not place.exists():
                shutil.copy(file, place)
    return f"python -m monai.bundle run --config_file {target.as_posix()}/train.json"
