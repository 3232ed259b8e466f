# SPDX-License-Identifier: Apache-2.0
"""What a plan prints."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from monai_stochseg.planning.choose import Choice
from monai_stochseg.planning.survey import CaseReport


def write_table(
    reports: Sequence[CaseReport],
    class_names: Sequence[str],
    channel_names: Sequence[str],
    agreed: Mapping[str, Any],
    choice: Choice,
    warned: Sequence[str],
) -> str:
    """
    Say in words and tables what a folder holds and what was chosen.

    Args:
        reports: of all cases.
        class_names: names of the classes.
        channel_names: names of the channels.
        agreed: of :py:func:`monai_stochseg.planning.agreement.agreement`.
        choice: what was chosen.
        warned: lines of warning.
    """
    shapes = np.array([report.shape for report in reports])
    spacings = np.array([report.spacing for report in reports])
    raters = [len(report.raters) for report in reports]
    every = {rater for report in reports for rater in report.raters}
    volumes = shapes.shape[1] == 3
    rows = [
        ("cases", str(len(reports))),
        ("raters of a case", _range(raters) + f" ({len(every)} names in all)"),
        ("channels", ", ".join(channel_names)),
        ("classes", ", ".join(class_names)),
        ("size", f"{_range_of_rows(shapes)} {'voxels' if volumes else 'pixels'}"),
        ("spacing", _range_of_rows(spacings)),
        ("intensity", f"{min(r.low for r in reports):g} to {max(r.high for r in reports):g}"),
        ("diversity of the raters", f"{agreed['diversity']:.3f}"),
    ]
    unit = "ml" if volumes else "pixels" if (spacings == 1).all() else "mm^2"
    scale = 1e-3 if volumes else 1.0
    lines = [f"{name + ':':<26}{value}" for name, value in rows]
    lines += ["", f"{'structure':<20}{'cases':>7}{'Dice':>8}{'IoU':>8}{unit:>10}{'spread':>9}"]
    for name, found in agreed["structures"].items():
        lines.append(
            f"{name:<20}{found['cases']:>7}{found['dice']:>8.3f}{found['iou']:>8.3f}{found['volume'] * scale:>10.3g}"
            f"{found['relative_spread']:>9.1%}"
        )
    if agreed["least_agreement"]:
        worst = ", ".join(f"{name} ({dice:.2f})" for name, dice in agreed["least_agreement"].items())
        lines += ["", f"least agreement (mean Dice of two raters): {worst}"]
    if "raters" in agreed:
        lines.append(
            f"raters, mean Dice to the others: {', '.join(f'{n} {d:.2f}' for n, d in agreed['raters'].items())}"
        )
    lines += ["", "chosen:", *(f"  {reason}" for reason in choice.reasons)]
    return "\n".join([*lines, *(f"WARNING: {line}" for line in warned)])


def without_nan(content: Any) -> Any:
    """The same content with None in the place of NaN, which JSON does not have."""
    if isinstance(content, Mapping):
        return {key: without_nan(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [without_nan(value) for value in content]
    return None if isinstance(content, float) and math.isnan(content) else content


def _range(values: Sequence[float]) -> str:
    low, high = min(values), max(values)
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def _range_of_rows(rows: np.ndarray) -> str:
    return " x ".join(_range([float(f"{value:.4g}") for value in column]) for column in rows.T)
