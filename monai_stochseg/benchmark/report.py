# SPDX-License-Identifier: Apache-2.0
"""One table of all methods: CSV, Markdown and a figure."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from monai_stochseg.bundle.evaluation import CURVE
from monai_stochseg.visualize import plot_energy_distance

# Heading, how to read the value, how to show it.
_COLUMNS: Sequence[tuple[str, Callable[[Mapping[str, Any]], Any], str]] = (
    ("GED 16", lambda row: _at(row, 16), ".3f"),
    ("GED 50", lambda row: _at(row, 50), ".3f"),
    ("GED 100", lambda row: _at(row, 100), ".3f"),
    ("HM-IoU 16", lambda row: row.get("hm_iou"), ".3f"),
    ("diversity", lambda row: row.get("diversity"), ".3f"),
    ("diversity of the readers", lambda row: row.get("rater_diversity"), ".3f"),
    ("Dice", lambda row: row.get("dice"), ".3f"),
    ("Dice, non-empty readers", lambda row: row.get("dice_nonempty"), ".3f"),
    ("ECE", lambda row: row.get("ece"), ".4f"),
    ("ambiguous or not, accuracy", lambda row: row.get("ambiguity"), ".3f"),
    ("diversity, rank correlation", lambda row: row.get("diversity_correlation"), ".3f"),
    ("empty share, rank correlation", lambda row: row.get("empty_correlation"), ".3f"),
    ("s / step", lambda row: row.get("seconds_per_step"), ".3f"),
    ("ms / sample", lambda row: None if "seconds_per_sample" not in row else 1e3 * row["seconds_per_sample"], ".2f"),
    ("peak MiB", lambda row: None if "peak_memory" not in row else row["peak_memory"] / 2**20, ".0f"),
    ("parameters", lambda row: row.get("parameters"), "d"),
)


def write_report(rows: Mapping[str, Mapping[str, Any]], folder: Path, title: str, readers: str) -> str:
    """
    Write ``benchmark.csv``, ``benchmark.md`` and ``benchmark.png`` to a folder.

    Args:
        rows: results by method: those of the training, and of the evaluation.
        folder: where to write.
        title: what was compared: above the table and the figure, and a column of the CSV.
        readers: name of the row that is the floor.

    Returns:
        the title and the table, as Markdown: a value that is undefined is ``n/a``, one that the method has not is left
        blank. In the CSV they are ``nan`` and blank.
    """
    folder.mkdir(parents=True, exist_ok=True)
    headings = ["method", *(heading for heading, _, _ in _COLUMNS)]
    with (folder / "benchmark.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*headings, "setting"])
        for name, row in rows.items():
            writer.writerow([name, *(get(row) for _, get, _ in _COLUMNS), title])
    lines = [_line(headings), _line(["---"] * len(headings))]
    for name, row in rows.items():
        lines.append(_line([name, *(_show(get(row), form) for _, get, form in _COLUMNS)]))
    table = "\n".join([title, "", *lines]) + "\n"
    (folder / "benchmark.md").write_text(table, encoding="utf-8")
    curves = {name: dict(zip(CURVE, row["ged_curve"], strict=True)) for name, row in rows.items() if "ged_curve" in row}
    floor = curves.pop(readers, None)
    if curves:
        figure = plot_energy_distance(curves, floor)
        figure.suptitle(title, fontsize=9)
        figure.savefig(folder / "benchmark.png", dpi=130)
    return table


def _at(row: Mapping[str, Any], num_samples: int) -> float | None:
    return row["ged_curve"][CURVE.index(num_samples)] if "ged_curve" in row else None


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _show(value: Any, form: str) -> str:
    if value is None:
        return ""
    return "n/a" if math.isnan(value) else format(value, form)
