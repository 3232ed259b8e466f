# SPDX-License-Identifier: Apache-2.0
"""Stochastic segmentation for MONAI: many coherent masks per image, in calibrated proportions, in 2D and 3D."""

from importlib import import_module
from types import ModuleType

__version__ = "0.1.0"

__all__ = [
    "bundle",
    "data",
    "distributions",
    "engines",
    "handlers",
    "inferers",
    "losses",
    "metrics",
    "networks",
    "tasks",
    "transforms",
    "visualize",
]


def __getattr__(name: str) -> ModuleType:
    """Import a room when it is asked for: all of them take seconds."""
    if name in __all__:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """The rooms, imported or not."""
    return sorted([*globals(), *__all__])
