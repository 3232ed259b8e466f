# SPDX-License-Identifier: Apache-2.0
"""Tables that evaluations have written beside their figures, for one figure of several."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path

import torch
from matplotlib.figure import Figure

from monai_stochseg.data import CaseError, new_file

__all__ = ["read_tables", "save_figure"]


def read_tables(
    command: str, files: Sequence[str], heading: Sequence[str], names: Sequence[str] | None = None
) -> dict[str, torch.Tensor]:
    """
    Read the tables of several evaluations.

    Args:
        command: in the errors.
        files: the tables.
        heading: their columns, of which the first numbers the rows.
        names: of the tables. Default: the folder that each file lies in.

    Returns:
        by name, ``[rows, columns - 1]`` float64.

    Raises:
        CaseError: when there is no file, two have one name, or one is no such table.
    """
    if not files:
        raise CaseError(f"{command}: give at least one table with the columns {', '.join(heading)}.")
    paths = [Path(str(file)).expanduser().absolute() for file in files]
    chosen = [str(name) for name in names] if names is not None else [path.parent.name for path in paths]
    if len(chosen) != len(paths) or len(set(chosen)) != len(chosen):
        raise CaseError(f"{command}: each of the {len(paths)} files needs a name of its own, got {chosen}.")
    return {name: _read(command, path, tuple(heading)) for name, path in zip(chosen, paths, strict=True)}


def save_figure(figure: Figure, out: str) -> str:
    """Write a figure; returns its path."""
    with new_file(Path(str(out)).expanduser()) as temporary:
        figure.savefig(temporary, dpi=130)
    return str(out)


def _read(command: str, path: Path, heading: tuple[str, ...]) -> torch.Tensor:
    with path.open(newline="", encoding="utf-8") as lines:
        found, *rows = [tuple(row) for row in csv.reader(lines)] or [()]
    try:
        values = [[float(value) for value in row[1:]] for row in rows]
    except ValueError:
        values = []
    whole = all(len(row) == len(heading) - 1 and all(map(math.isfinite, row)) for row in values)
    if found != heading or not values or not whole:
        raise CaseError(f"{command}: {path} is no table of {', '.join(heading)}, as an evaluation writes it.")
    return torch.tensor(values, dtype=torch.float64)
