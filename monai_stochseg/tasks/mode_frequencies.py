# SPDX-License-Identifier: Apache-2.0
"""Mode frequencies as a table, and the figure of several of them."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path

import torch

from monai_stochseg.data import CaseError, new_file
from monai_stochseg.visualize import plot_mode_frequency

__all__ = ["frequency_rows", "mode_frequencies"]

_HEADING = ("mode", "probability", "frequency")


def frequency_rows(frequencies: torch.Tensor) -> list[tuple]:
    """
    The rows of a table of mode frequencies, its heading first.

    Args:
        frequencies: ``[2, M]``, as :py:meth:`monai_stochseg.metrics.ModeFrequencyMetric.frequencies` returns them.
    """
    frequency, probability = frequencies.double().tolist()
    return [_HEADING, *zip(range(len(frequency)), probability, frequency, strict=True)]


def mode_frequencies(*files: str, out: str, names: Sequence[str] | None = None) -> str:
    """
    Draw the mode frequencies of several methods in one figure, after Kohl et al. 2018, figures 5 and 8 to 10.

    Args:
        files: mode_frequency_<part>.csv of each method, which an evaluation on Cityscapes writes into its output.
        out: the figure to write, in any format of matplotlib.
        names: of the methods, in the legend; by default the folder that each file lies in.

    Returns:
        The figure's path.

    """
    if not files:
        raise CaseError("mode_frequencies: give at least one mode_frequency_<part>.csv.")
    paths = [Path(str(file)).expanduser().absolute() for file in files]
    chosen = [str(name) for name in names] if names is not None else [path.parent.name for path in paths]
    if len(chosen) != len(paths) or len(set(chosen)) != len(chosen):
        raise CaseError(f"mode_frequencies: each of the {len(paths)} files needs a name of its own, got {chosen}.")
    found = {name: _read(path) for name, path in zip(chosen, paths, strict=True)}
    try:
        figure = plot_mode_frequency(found)
    except ValueError as error:
        raise CaseError(f"mode_frequencies: the files are not of one task and part: {error}") from None
    with new_file(Path(str(out)).expanduser()) as temporary:
        figure.savefig(temporary, dpi=130)
    return str(out)


def _read(path: Path) -> torch.Tensor:
    """``[2, M]``, frequencies and probabilities."""
    with path.open(newline="", encoding="utf-8") as lines:
        heading, *rows = [tuple(row) for row in csv.reader(lines)] or [()]
    try:
        values = [(float(frequency), float(probability)) for _, probability, frequency in rows]
    except ValueError:
        values = []
    if heading != _HEADING or not values or not all(math.isfinite(value) for pair in values for value in pair):
        raise CaseError(f"mode_frequencies: {path} is no table of {', '.join(_HEADING)}, as an evaluation writes it.")
    return torch.tensor(values, dtype=torch.float64).T
