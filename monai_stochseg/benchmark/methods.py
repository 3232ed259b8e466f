# SPDX-License-Identifier: Apache-2.0
"""Which methods there are: the bundles of a task, and the ids by which a bundle's methods differ."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from monai_stochseg.bundle import find_bundle

TASKS = ("lidc",)
READERS = "readers"  # no bundle: the readers themselves, resampled


@dataclass(frozen=True)
class Method:
    """
    A bundle with certain ids.

    Args:
        name: of the method, in the table.
        folder: of the bundle.
        ids: what is overridden.
        sampled_from: the method whose training this one samples in another way; default: its own.
    """

    name: str
    folder: Path
    ids: Mapping[str, Any] = field(default_factory=dict)
    sampled_from: Method | None = None

    @property
    def trained(self) -> Method:
        """The method whose training this one samples."""
        return self.sampled_from or self


def find_methods(task: str, chosen: Sequence[str] | None = None) -> list[Method]:
    """
    The methods of a task's bundles.

    A bundle ``<name>_<task>`` joins by its name. Its file ``benchmark.json`` may name several methods, each with its
    ``ids`` and perhaps ``trained_as``; without the file there is one, named as the bundle.

    Args:
        task: ``lidc``.
        chosen: names of bundles or of methods; default: all.

    Raises:
        ValueError: for another task, or a name that is neither a method nor a bundle; names those there are.
    """
    if task not in TASKS:
        raise ValueError(f"task must be one of {TASKS}, got {task!r}.")
    bundles = Path(find_bundle(f"ssn_{task}")).parent
    found: dict[str, list[Method]] = {
        folder.name: _methods(folder)
        for folder in sorted(bundles.glob(f"*_{task}"))
        if (folder / "train.json").is_file()
    }
    methods = {method.name: method for group in found.values() for method in group}
    if chosen is None:
        return list(methods.values())
    names: list[str] = []
    for name in chosen:
        if name not in methods and name not in found:
            raise ValueError(f"{name!r} is no method ({', '.join(methods)}) and no bundle ({', '.join(found)}).")
        names += [name] if name in methods else [method.name for method in found[name]]
    return [methods[name] for name in dict.fromkeys(names)]


def _methods(folder: Path) -> list[Method]:
    file = folder / "benchmark.json"
    if not file.is_file():
        return [Method(folder.name, folder)]
    entries = json.loads(file.read_text(encoding="utf-8"))
    own = {name: Method(name, folder, entry.get("ids", {})) for name, entry in entries.items()}
    return [
        replace(method, sampled_from=own[entries[name]["trained_as"]]) if "trained_as" in entries[name] else method
        for name, method in own.items()
    ]
