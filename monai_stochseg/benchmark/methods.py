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
OWN_IDS = {"output_dir", "resume", "eval_samples"}  # set by the benchmark
NULLS = ("threshold", "independent")  # what learns no covariance, in every table
READERS = "readers"  # no bundle: the readers themselves, resampled


class BenchmarkError(Exception):
    """What the command tells in one line: a name that it does not know, a file that is wrong, methods that failed."""


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

    A bundle ``<name>_<task>`` in the repository, or in ``bundles`` of the working folder, joins by its name. Its file
    ``benchmark.json`` may name several methods, each with its ``ids`` and perhaps ``trained_as``, the method whose
    training it samples in another way; without the file there is one, named as the bundle, and a file that names
    none, ``{}``, keeps a bundle out whose network draws no samples.

    Args:
        task: ``lidc``.
        chosen: names of bundles or of methods; default: all.

    Raises:
        BenchmarkError: for another task, a name that is neither a method nor a bundle (it names those there are), a
            bundle without a method, two methods of one name, or a ``benchmark.json`` that says something else.
    """
    if task not in TASKS:
        raise BenchmarkError(f"task must be one of {', '.join(TASKS)}, got {task!r}.")
    bundles: dict[str, list[Method]] = {}
    for place in (Path.cwd() / "bundles", Path(find_bundle(f"ssn_{task}")).parent):
        for folder in sorted(place.glob(f"*_{task}")):
            if (folder / "train.json").is_file() and folder.name not in bundles:
                bundles[folder.name] = _methods(folder)
    methods: dict[str, Method] = {}
    for method in (method for group in bundles.values() for method in group):
        if method.name in (*methods, READERS):
            raise BenchmarkError(f"{method.folder.name}: there is another method {method.name!r}; rename one.")
        methods[method.name] = method
    if chosen is None:
        return list(methods.values())
    names: list[str] = []
    for name in chosen:
        if name not in methods and name not in bundles:
            joining = ", ".join(bundle for bundle, group in bundles.items() if group)
            known = f"the methods are {', '.join(methods)}, the bundles {joining}"
            raise BenchmarkError(f"there is no method or bundle {name!r}: {known}.")
        if name not in methods and not bundles[name]:
            raise BenchmarkError(f"bundle {name!r} names no method in its benchmark.json, and takes no part.")
        names += [name] if name in methods else [method.name for method in bundles[name]]
    return [methods[name] for name in dict.fromkeys(names)]


def check_ids(methods: Sequence[Method], overlays: Sequence[str], ids: Mapping[str, Any]) -> None:
    """
    Refuse an id that none of the methods' configurations has, which MONAI would take in silence. One that only some
    have is of no effect in the others.

    Args:
        methods: the methods.
        overlays: names of configuration files after ``train.json``.
        ids: the ids.

    Raises:
        BenchmarkError: for such an id, and for those that the benchmark sets itself.
    """
    files = [method.folder / name for method in methods for name in ("train.json", *overlays)]
    known = set().union(*(json.loads(file.read_text("utf-8")) for file in files if file.is_file()))
    for name in ids:
        first = name.replace("::", "#").split("#")[0]
        if first not in known - OWN_IDS:
            raise BenchmarkError(f"ids: no bundle has an id {first!r} to be set; there are {sorted(known - OWN_IDS)}.")


def _methods(folder: Path) -> list[Method]:
    file = folder / "benchmark.json"
    if not file.is_file():
        return [Method(folder.name, folder)]
    try:
        entries = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BenchmarkError(f"{file} is no JSON: {error}.") from None
    own = {name: Method(name, folder, entry.get("ids", {})) for name, entry in entries.items()}
    methods = []
    for name, method in own.items():
        source = entries[name].get("trained_as")
        if unknown := entries[name].keys() - {"ids", "trained_as"}:
            raise BenchmarkError(f"{file}: {name} may have ids and trained_as, but has {sorted(unknown)}.")
        if source is not None and "trained_as" in entries.get(source, {"trained_as": None}):
            raise BenchmarkError(f"{file}: {name} is trained as {source!r}, which is no method with its own training.")
        methods.append(method if source is None else replace(method, sampled_from=own[source]))
    return methods
