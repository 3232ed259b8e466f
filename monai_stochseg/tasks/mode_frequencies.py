# SPDX-License-Identifier: Apache-2.0
"""Mode frequencies as a table, and the figure of several of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from monai_stochseg.data import CaseError
from monai_stochseg.tasks.saved_figures import read_tables, save_figure
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
    tables = read_tables("mode_frequencies", files, _HEADING, names)
    try:
        figure = plot_mode_frequency({name: table.T.flip(0) for name, table in tables.items()})
    except ValueError as error:
        raise CaseError(f"mode_frequencies: the files are not of one task and part: {error}") from None
    return save_figure(figure, out)
