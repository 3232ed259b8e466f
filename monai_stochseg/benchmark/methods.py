# SPDX-License-Identifier: Apache-2.0
"""Which methods there are: those that the bundles name, and the ids by which a bundle's methods differ."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from monai_stochseg.benchmark.settings import BenchmarkError, find_setting
from monai_stochseg.bundle.copies import bundles_folder

OWN_IDS = {"output_dir", "resume", "eval_samples"}  # set by the benchmark
NULLS = ("threshold", "independent")  # what learns no covariance, in every table
READERS = "readers"  # no bundle: the readers themselves, or the known truth, resampled


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

    def files(self, task: str) -> list[Path]:
        """The configuration files of a training on a task: that of another task needs the task's overlay."""
        train = self.folder / "train.json"
        if is_home(self.folder, task):
            return [train]
        overlay = find_setting(task).overlay
        return [train, Path(overlay) if overlay.endswith(".json") else bundles_folder() / "tasks" / f"{overlay}.json"]


def is_home(folder: Path, task: str) -> bool:
    """Whether a bundle, ``<name>_<task>``, is of this task without an overlay."""
    return folder.name.endswith(f"_{task}")


def find_methods(task: str, chosen: Sequence[str] | None = None) -> list[Method]:
    """
    The methods that are compared on a task.

    A bundle in the repository, or in ``bundles`` of the working folder, takes part by its file ``benchmark.json``,
    which names one method or several, each with its ``ids`` and perhaps ``trained_as``, the method whose training it
    samples in another way. Any method runs on any task; of two bundles that name the same method, the task's own is
    taken.

    Args:
        task: see :py:func:`monai_stochseg.benchmark.settings.find_setting`.
        chosen: names of bundles or of methods; default: all.

    Raises:
        BenchmarkError: for another task, a name that is neither a method nor a bundle (it names those there are), two
            methods of one name, or a ``benchmark.json`` that says something else.
    """
    find_setting(task)
    bundles: dict[str, list[Method]] = {}
    for place in (Path.cwd() / "bundles", bundles_folder()):
        for file in sorted(place.glob("*/benchmark.json")):
            if file.with_name("train.json").is_file() and file.parent.name not in bundles:
                bundles[file.parent.name] = _methods(file.parent)
    methods: dict[str, Method] = {}
    for method in (method for group in bundles.values() for method in group):
        other = methods.get(method.name)
        if method.name == READERS or (other and is_home(other.folder, task) and is_home(method.folder, task)):
            raise BenchmarkError(f"{method.folder.name}: there is another method {method.name!r}; rename one.")
        if (
            other is None
            or is_home(method.folder, task)
            or (not is_home(other.folder, task) and _is_first(method, other))
        ):
            methods[method.name] = method
    if chosen is None:
        return list(methods.values())
    names: list[str] = []
    for name in chosen:
        if name not in methods and name not in bundles:
            known = f"the methods are {', '.join(methods)}, the bundles {', '.join(bundles)}"
            raise BenchmarkError(f"there is no method or bundle {name!r}: {known}.")
        names += [name] if name in methods else [method.name for method in bundles[name]]
    return [methods[name] for name in dict.fromkeys(names)]


def _is_first(method: Method, other: Method) -> bool:
    """Of two bundles that are both away from home, that of LIDC: its sizes are the benchmark's."""
    return is_home(method.folder, "lidc") and not is_home(other.folder, "lidc")


def check_ids(task: str, methods: Sequence[Method], overlays: Sequence[str], ids: Mapping[str, Any]) -> None:
    """
    Refuse an id that none of the methods' configurations has, which MONAI would take in silence. One that only some
    have is of no effect in the others.

    Args:
        task: the task.
        methods: the methods.
        overlays: names of configuration files of a bundle after the task's.
        ids: the ids.

    Raises:
        BenchmarkError: for such an id, and for those that the benchmark sets itself.
    """
    files = [file for m in methods for file in (*m.files(task), *(m.folder / name for name in overlays))]
    known = set().union(*(json.loads(file.read_text("utf-8")) for file in files if file.is_file()))
    for name in ids:
        first = name.replace("::", "#").split("#")[0]
        if first not in known - OWN_IDS:
            raise BenchmarkError(f"ids: no bundle has an id {first!r} to be set; there are {sorted(known - OWN_IDS)}.")


def _methods(folder: Path) -> list[Method]:
    file = folder / "benchmark.json"
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
