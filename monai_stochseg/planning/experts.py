# SPDX-License-Identifier: Apache-2.0
"""How the experts of a mixture begin, by how the raters differ."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from monai_stochseg.planning.survey import CaseReport

_OVERLAP = 0.5  # mean IoU of two raters from which they mean the same object
_EMPTY = 0.05  # share of empty readings from which some raters see nothing


def choose_experts(reports: Sequence[CaseReport], reasons: list[str]) -> dict[str, Any]:
    """
    Let the experts of a mixture part where the raters differ at the border alone.

    All masks of a case are alike then: the first sample that resembles them is the nearest one to every rater and takes
    as much mass as it can, and the others, without a gradient, never come to differ. So each of the N samples first has
    to take its part of the raters, ``1 / N``, which the exact coupling gives by their order, the small masks to the
    small samples; and priors three times as wide give an expert's own samples room to differ. Where some raters draw a
    structure and others do not, experts part by themselves, and nothing is chosen.

    Args:
        reports: of all cases.
        reasons: a line is added where something is chosen.

    Returns:
        ids of ``bundles/mose_lidc`` and ``bundles/mose_cityscapes``; of another method they are without effect.
    """
    found = [s for r in reports for s in r.structures.values() if len(s.voxels) > 1]
    overlaps = [structure.iou for structure in found if not math.isnan(structure.iou)]
    if not overlaps:
        return {}
    overlap = np.mean(overlaps)
    empty = np.mean([count == 0 for structure in found for count in structure.voxels])
    if overlap < _OVERLAP or empty >= _EMPTY:
        return {}
    reasons.append(
        f"the experts of a mixture begin wide, and each sample takes its part of the raters, who differ at the border "
        f"alone (mean IoU of two {overlap:.2f}, {empty:.0%} of the readings empty)"
    )
    least = "1 / (@num_experts * @num_samples)"
    return {
        "prior_std": 0.3,
        "solver": "exact",
        "gamma": f"$[[1, {least}], [max(2, 2 * @max_epochs // 3), max(0.25, {least})]]",
    }
