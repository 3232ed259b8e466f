# SPDX-License-Identifier: Apache-2.0
"""``python -m monai_stochseg reliability``: the reliability of several evaluations in one diagram."""

from __future__ import annotations

from collections.abc import Sequence

from monai_stochseg.data import CaseError
from monai_stochseg.handlers.reliability_figure import RELIABILITY_HEADING
from monai_stochseg.tasks.saved_figures import read_tables, save_figure
from monai_stochseg.visualize import plot_reliability

__all__ = ["reliability"]


def reliability(*files: str, out: str, names: Sequence[str] | None = None, title: str | None = None) -> str:
    """
    Draw the reliability of several trainings, such as of two targets, in one diagram, as Islam and Glocker 2021.

    Args:
        files: reliability_<part>.csv of each training, which the bundles of single answers write in an evaluation.
        out: the figure to write, in any format of matplotlib.
        names: of the trainings, in the legend; by default the folder that each file lies in.
        title: stands above the diagram.

    Returns:
        The figure's path.

    """
    tables = read_tables("reliability", files, RELIABILITY_HEADING, names)
    counts = {name: int(bins[:, 0].sum()) for name, bins in tables.items()}
    if len(set(counts.values())) > 1:
        raise CaseError(f"reliability: the files are not of the same voxels, whose numbers are {counts}.")
    return save_figure(plot_reliability(tables, title=title), out)
