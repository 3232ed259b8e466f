# SPDX-License-Identifier: Apache-2.0
"""The threshold on the share of samples, fitted on one part of the data and applied on another."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

import torch

from monai_stochseg.data import CaseError
from monai_stochseg.metrics import AmbiguityAccuracyMetric, fit_ambiguity_threshold
from monai_stochseg.tasks.sample_metrics import TaskMetric

__all__ = ["AMBIGUITY_FITTED", "ambiguity_file", "fitted_ambiguity", "threshold_rows"]

AMBIGUITY_FITTED = "ambiguity_fitted"
_HEADING = ("threshold", "accuracy", "cases")


def ambiguity_file(output_dir: str | os.PathLike[str], part: str) -> str:
    """The figure of one part; on ``validation`` the fitted threshold stands beside it as ``.csv``."""
    return os.path.join(output_dir, f"ambiguity_{part}.png")


def threshold_rows(fractions: torch.Tensor) -> list[tuple]:
    """
    The rows of the file of a fitted threshold, its heading first.

    Args:
        fractions: ``[items, 2]``, see :py:func:`monai_stochseg.metrics.fit_ambiguity_threshold`.
    """
    return [_HEADING, (*fit_ambiguity_threshold(fractions), len(fractions))]


def fitted_ambiguity(output_dir: str | os.PathLike[str], metric: TaskMetric) -> TaskMetric:
    """
    The metric ``ambiguity`` with the threshold that an evaluation on the validation part fitted (Kohl et al. 2018,
    https://arxiv.org/abs/1806.05034, appendix E).

    Args:
        output_dir: folder of the training, where that evaluation wrote ``ambiguity_validation.csv``.
        metric: the task's ``ambiguity``.

    Raises:
        CaseError: when the file is missing or holds no threshold.
    """
    path = Path(ambiguity_file(output_dir, "validation")).with_suffix(".csv")
    if not path.is_file():
        raise CaseError(
            f"{AMBIGUITY_FITTED} needs the threshold in {path}, which is missing: evaluate with --part validation "
            "first."
        )
    with path.open(newline="", encoding="utf-8") as lines:
        rows = [tuple(row) for row in csv.reader(lines)]
    try:
        heading, (threshold, *_) = rows
        given: Any = metric.metric
        fitted = AmbiguityAccuracyMetric(float(threshold), given.classes, given.ignore_index)
    except ValueError:
        heading = None
    if heading != _HEADING:
        raise CaseError(f"{path} is no table of {', '.join(_HEADING)}, as an evaluation on validation writes it.")
    return metric._replace(metric=fitted)
