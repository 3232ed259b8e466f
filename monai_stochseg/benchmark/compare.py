# SPDX-License-Identifier: Apache-2.0
"""``python -m monai_stochseg compare``: two methods on the same cases."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
from scipy.stats import wilcoxon

from monai_stochseg.data import CaseError
from monai_stochseg.handlers.case_table import SUMMARY_ROWS

__all__ = ["compare"]


def compare(first: str, second: str) -> str:
    """
    Compare two evaluations of the same cases by Wilcoxon's signed-rank test, as Kohl et al. 2018, section 4.1.

    Cases are paired by their names. A case without a value in one of the tables is left out of that column. The p is
    two-sided and of one column; it is not corrected for the number of columns.

    Args:
        first: evaluation_test.csv of one method, as the bundles' evaluate.json writes it.
        second: that of the other.

    Returns:
        A table: of each column that both have the cases, both means, the median of the differences, first less second,
        and p.
    """
    one, two = _read(first), _read(second)
    for name, cases, other in ((first, one, two), (second, two, one)):
        if alone := [case for case in cases if case not in other]:
            missing = second if name == first else first
            raise CaseError(
                f"compare: {name} has {len(alone)} cases that {missing} has not, such as {alone[0]}: compare "
                "evaluations of the same part."
            )
    columns = [column for column in next(iter(one.values())) if column in next(iter(two.values()))]
    lines = [f"{'':<26}{'cases':>7}{'first':>10}{'second':>10}{'median difference':>20}{'p':>10}"]
    for column in columns:
        a, b = (np.array([table[case][column] for case in one]) for table in (one, two))
        paired = np.isfinite(a) & np.isfinite(b)
        if not paired.any():
            continue  # a value over all cases, which has none of its own
        a, b = a[paired], b[paired]
        numbers = f"{a.mean():>10.4f}{b.mean():>10.4f}{np.median(a - b):>20.4f}{_p(a - b):>10.3g}"
        lines.append(f"{column:<26}{len(a):>7}{numbers}")
    if len(lines) == 1:
        raise CaseError(f"compare: {first} and {second} share no column with values of cases.")
    return "\n".join(lines)


def _p(differences: np.ndarray) -> float:
    """Of the two-sided test; 1 where no case differs."""
    return float(wilcoxon(differences).pvalue) if differences.any() else 1.0


def _read(name: str) -> dict[str, dict[str, float]]:
    """The values of each case by column."""
    path = Path(str(name)).expanduser()
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if not reader.fieldnames or reader.fieldnames[0] != "case":
            raise CaseError(f"compare: {name} is no table of an evaluation: its first column must be case.")
        rows = [row for row in reader if row["case"] not in SUMMARY_ROWS]
    cases: dict[str, dict[str, float]] = {}
    for row in rows:
        case = row.pop("case")
        if case in cases:
            raise CaseError(f"compare: {name} has the case {case} twice.")
        cases[case] = {column: _number(value, f"compare: {name}, {case}, {column}") for column, value in row.items()}
    if not cases:
        raise CaseError(f"compare: {name} has no case.")
    return cases


def _number(value: str | None, where: str) -> float:
    try:
        return math.nan if value is None else float(value)
    except (TypeError, ValueError):
        raise CaseError(f"{where}: {value!r:.40} is no number.") from None
