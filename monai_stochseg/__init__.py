# SPDX-License-Identifier: Apache-2.0
"""Stochastic segmentation for MONAI: many coherent masks per image, in calibrated proportions, in 2D and 3D."""

from . import (
    bundle,
    data,
    distributions,
    engines,
    handlers,
    inferers,
    losses,
    metrics,
    networks,
    tasks,
    transforms,
    visualize,
)

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
