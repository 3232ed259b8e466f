# SPDX-License-Identifier: Apache-2.0
"""How far the raters of a folder agree, and what makes a plan hopeless."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from monai_stochseg.planning.survey import CaseReport

_FEW_CASES, _FEW_VOXELS, _OUTLIER = 10, 16, 0.2


def agreement(reports: Sequence[CaseReport], names: Mapping[str, str], known_raters: bool) -> dict[str, Any]:
    """
    Pairwise Dice and IoU, diversity, volumes and their spread by structure, the cases with least agreement, and who
    differs most.

    Args:
        reports: of all cases.
        names: of the structures, by their key in the reports.
        known_raters: whether a rater's name is the same person in all cases.

    Returns:
        ``structures`` with an entry each, ``diversity`` (mean distance of two raters of a case, of all structures, a
        rater with himself included), ``least_agreement`` (cases, worst first), and ``raters`` (mean Dice to the others,
        lowest first) where they are known.
    """
    structures = {}
    for key, name in names.items():
        found = [report.structures[key] for report in reports if key in report.structures]
        voxels = [[v * math.prod(r.spacing) for v in r.structures[key].voxels] for r in reports if key in r.structures]
        spread = [float(np.std(v) / np.mean(v)) for v in voxels if len(v) > 1 and np.mean(v) > 0]
        structures[name] = {
            "cases": len(found),
            "dice": _mean([one.dice for one in found]),
            "iou": _mean([one.iou for one in found]),
            "volume": _mean([float(np.mean(v)) for v in voxels]),
            "relative_spread": _mean(spread),
        }
    agreed = {r.patient: _mean([s.dice for s in r.structures.values()]) for r in reports}
    ranked = sorted((patient for patient in agreed if not math.isnan(agreed[patient])), key=lambda p: agreed[p])
    result = {
        "structures": structures,
        "diversity": _mean([sum(s.distance for s in r.structures.values()) / max(1, len(names)) for r in reports]),
        "least_agreement": {patient: round(agreed[patient], 4) for patient in ranked[:5]},
    }
    if known_raters:
        by_rater: dict[str, list[float]] = {}
        for report in reports:
            for structure in report.structures.values():
                for rater, dice in zip(report.raters, structure.dice_to_others, strict=False):
                    by_rater.setdefault(rater, []).append(dice)
        means = {rater: round(_mean(values), 4) for rater, values in by_rater.items()}
        result["raters"] = dict(sorted(means.items(), key=lambda item: item[1]))
    return result


def warnings_of(reports: Sequence[CaseReport], subjects: int, names: Mapping[str, str]) -> list[str]:
    """
    What makes a plan hopeless, or a reading doubtful, a line each.

    Args:
        reports: of all cases.
        subjects: number of persons.
        names: of the structures, by their key in the reports.
    """
    lines = []
    if subjects < _FEW_CASES:
        lines.append(f"only {subjects} persons: a training shows that the pipeline runs, and no more.")
    if all(len(report.raters) < 2 for report in reports):
        lines.append(
            "each case has one rater: nothing says how raters differ. An SSN learns where one rater is uncertain; SVLS "
            "makes soft targets of one rater."
        )
    for key, name in names.items():
        sizes = [v for r in reports if key in r.structures for v in r.structures[key].voxels if v > 0]
        if sizes and np.median(sizes) < _FEW_VOXELS:
            lines.append(f"{name}: a median of {np.median(sizes):.0f} voxels is too few to be learnt.")
        if not sizes:
            lines.append(f"{name}: no rater drew it.")
    for report in reports:
        for key, structure in report.structures.items():
            doubtful = [r for r, d in zip(report.raters, structure.dice_to_others, strict=False) if d < _OUTLIER]
            if doubtful and len(doubtful) < len(report.raters) / 2:
                who = f"case {report.patient}, {names[key]}: rater {', '.join(doubtful)}"
                lines.append(f"{who} overlaps with hardly anybody.")
    return lines


def _mean(values: Sequence[float]) -> float:
    defined = [value for value in values if not math.isnan(value)]
    return float(np.mean(defined)) if defined else float("nan")
