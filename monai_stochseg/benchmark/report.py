# SPDX-License-Identifier: Apache-2.0
"""One table of all methods: CSV, Markdown and a figure."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from monai_stochseg.data import new_file, write_csv
from monai_stochseg.tasks.sample_metrics import CURVE
from monai_stochseg.visualize import plot_energy_distance, plot_sampling_cost

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
    ("mode frequency, error", lambda row: row.get("mode_frequency"), ".3f"),
    ("flip ratio, error", lambda row: row.get("flip_ratio"), ".3f"),
    ("ambiguous or not, accuracy", lambda row: row.get("ambiguity"), ".3f"),
    ("diversity, rank correlation", lambda row: row.get("diversity_correlation"), ".3f"),
    ("empty share, rank correlation", lambda row: row.get("empty_correlation"), ".3f"),
    ("s / step", lambda row: row.get("seconds_per_step"), ".3f"),
    ("ms / image, once", lambda row: _milliseconds(row, "seconds_per_image"), ".2f"),
    ("ms / further sample", lambda row: _milliseconds(row, "seconds_per_further_sample"), ".3f"),
    ("peak MiB", lambda row: None if "peak_memory" not in row else row["peak_memory"] / 2**20, ".0f"),
    ("parameters", lambda row: row.get("parameters"), ".0f"),
)
_DISTANCE, _COST = "GED 16", "ms / further sample"
# Metrics of cases whose interval stands behind their column.
_INTERVALS = {"GED 16": "ged", "HM-IoU 16": "hm_iou"}


def write_report(seeds: Sequence[Mapping[str, Mapping[str, Any]]], folder: Path, title: str, readers: str) -> str:
    """
    Write ``benchmark.csv``, ``benchmark.md`` and the figures ``benchmark.png``, energy distance against the number of
    samples, and ``benchmark_cost.png``, energy distance against the time of a sample, to a folder.

    Args:
        seeds: for each seed the results by method: those of the training, and of the evaluation.
        folder: where to write.
        title: what was compared: above the table and the figure, and a column of the CSV.
        readers: name of the row that is the floor.

    Returns:
        the title and the table, as Markdown: means over the seeds, and 95 % intervals over seeds and patients. A value
        that is undefined is ``n/a``, one that the method has not is left blank, and so is a column that none has. In
        the CSV they are ``nan`` and blank.
    """
    by_method = {name: [rows[name] for rows in seeds if name in rows] for name in _names(seeds, readers)}
    cells = {name: _cells(rows) for name, rows in by_method.items()}
    headings = [h for h, _, _ in _COLUMNS if any(h in row for row in cells.values())]
    forms = {heading: form for heading, _, form in _COLUMNS}
    columns = [c for h in headings for c in (h, *([f"{h}, 95 %"] if h in _INTERVALS else []))]
    cells_of = {name: [row.get(column, "") for column in columns] for name, row in cells.items()}
    rows = [[name, *values, len(by_method[name]), title] for name, values in cells_of.items()]
    write_csv(folder / "benchmark.csv", [["method", *columns, "seeds", "setting"], *rows])
    lines = [_line(["method", *columns]), _line(["---"] * (1 + len(columns)))]
    for name, row in cells.items():
        lines.append(_line([name, *(_show(row.get(c), forms.get(c, "")) for c in columns)]))
    table = "\n".join([title, "", *lines]) + "\n"
    with new_file(folder / "benchmark.md") as temporary:
        temporary.write_text(table, encoding="utf-8")
    curves = {name: _curve(rows) for name, rows in by_method.items() if any("ged_curve" in row for row in rows)}
    floor = curves.pop(readers, None)
    if curves:
        figure = plot_energy_distance(curves, floor)
        _save(figure, title, folder / "benchmark.png")
    costs = {name: (row[_COST], row[_DISTANCE]) for name, row in cells.items() if _COST in row and _DISTANCE in row}
    costs = {name: point for name, point in costs.items() if point[0] > 0 and math.isfinite(point[1])}
    if costs:
        figure = plot_sampling_cost(
            costs, cells.get(readers, {}).get(_DISTANCE), "generalised energy distance, 16 samples"
        )
        _save(figure, title, folder / "benchmark_cost.png")
    return table


def _save(figure: Figure, title: str, path: Path) -> None:
    figure.suptitle("\n".join(textwrap.wrap(title, 110)), fontsize=9)
    with new_file(path) as temporary:
        figure.savefig(temporary, dpi=130)


def _names(seeds: Sequence[Mapping[str, Any]], readers: str) -> list[str]:
    """Methods in their order, the floor last."""
    names = dict.fromkeys(name for rows in seeds for name in rows if name != readers)
    return [*names, *([readers] if any(readers in rows for rows in seeds) else [])]


def _cells(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The mean over seeds of each column, and the intervals as text."""
    cells: dict[str, Any] = {}
    for heading, get, _ in _COLUMNS:
        values = [value for value in (get(row) for row in rows) if value is not None]
        if values:
            cells[heading] = sum(values) / len(values)
        metric = _INTERVALS.get(heading)
        cases = [row["cases"] for row in rows if metric in row.get("cases", {})]
        if cases and metric is not None:
            low, high = patient_interval([(case["patient"], case[metric]) for case in cases])
            cells[f"{heading}, 95 %"] = f"{low:.3f} to {high:.3f}"
    return cells


def patient_interval(
    seeds: Sequence[tuple[Sequence[str], Sequence[float]]], num_draws: int = 2000, level: float = 0.95
) -> tuple[float, float]:
    """
    Interval of a mean over seeds and patients, by a bootstrap that draws seeds and then patients with all their cases
    (Davison and Hinkley, Bootstrap Methods and their Application, 1997, section 3.8).

    Args:
        seeds: for each seed the patient and the value of each case; a value may be undefined (NaN), and is left out.
        num_draws: of the bootstrap.
        level: share of the draws inside the interval.

    Returns:
        the lower and the upper end; NaN where no case has a value.

    Example::

        >>> patient_interval([(["a", "b", "c"], [0.2, 0.2, 0.2])])
        (0.2, 0.2)
    """
    rng = np.random.default_rng(0)
    patients = sorted({patient for names, _ in seeds for patient in names})
    # sums and counts of each seed and patient, so that a draw is two sums
    total, count = (np.zeros((len(seeds), len(patients))) for _ in range(2))
    for row, (names, values) in enumerate(seeds):
        for name, value in zip(names, values, strict=True):
            if not math.isnan(value):
                total[row, patients.index(name)] += value
                count[row, patients.index(name)] += 1
    if not count.any():
        return math.nan, math.nan
    means = []
    for _ in range(num_draws):
        chosen = rng.integers(len(seeds), size=len(seeds))
        drawn = rng.integers(len(patients), size=len(patients))
        cases = count[chosen][:, drawn].sum()
        if cases:
            means.append(total[chosen][:, drawn].sum() / cases)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return round(float(low), 10), round(float(high), 10)


def _curve(rows: Sequence[Mapping[str, Any]]) -> dict[int, float]:
    found = [row["ged_curve"] for row in rows if "ged_curve" in row]
    return {n: sum(values) / len(found) for n, *values in zip(CURVE, *found, strict=True)}


def _at(row: Mapping[str, Any], num_samples: int) -> float | None:
    return row["ged_curve"][CURVE.index(num_samples)] if "ged_curve" in row else None


def _milliseconds(row: Mapping[str, Any], key: str) -> float | None:
    return 1e3 * row[key] if key in row else None


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _show(value: Any, form: str) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return "n/a" if math.isnan(value) else format(value, form)
