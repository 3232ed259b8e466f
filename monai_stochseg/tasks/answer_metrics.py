# SPDX-License-Identifier: Apache-2.0
"""Metrics of single answers: the structures' Dice and surface Dice, and calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from monai_stochseg.distributions import weights_of, with_weights
from monai_stochseg.metrics import (
    AdaptiveCalibrationErrorMetric,
    ExpectedCalibrationErrorMetric,
    ItemCalibrationErrorMetric,
    RegionDiceMetric,
    RegionSurfaceDiceMetric,
)
from monai_stochseg.tasks.sample_metrics import Pair, TaskMetric, entries, present_raters

if TYPE_CHECKING:
    from monai_stochseg.tasks.base import Task

__all__ = ["answer_metrics", "drop_empty_raters"]

_TOLERANCE = 2.0  # of the surface Dice, in mm
_probabilities = entries("probabilities", "label")


def answer_metrics(task: Task, full: bool) -> dict[str, TaskMetric]:
    """
    The metrics of a task's single answers by name.

    Args:
        task: the task.
        full: see :py:meth:`monai_stochseg.tasks.Task.answer_metrics`.
    """
    calibrated = _of_nonempty_raters if task.nonempty_raters else _probabilities
    dice = TaskMetric(RegionDiceMetric({f"dice_{name}": c for name, c in task.regions.items()}), _answer)
    ece = TaskMetric(ItemCalibrationErrorMetric(foreground_only=True), calibrated)
    if not full:
        return {"dice": dice, "ece": ece}
    calibration = {name: TaskMetric(metric, calibrated) for name, metric in _calibration(task).items()}
    reliability = TaskMetric(ExpectedCalibrationErrorMetric(foreground_only=True), calibrated)  # of the voxels of ece
    named = {"dice": dice, **_structures(task), "ece": ece, **calibration, **_calibration_to_each(task)}
    return {**named, "reliability": reliability}


def drop_empty_raters(label: torch.Tensor) -> torch.Tensor:
    """
    The raters who drew something.

    Args:
        label: ``[R, *S]``.

    Returns:
        ``[R', *S]``; all raters where none drew.
    """
    drawn = (label != 0).flatten(1).any(1)
    return label[drawn] if drawn.any() else label


def _answer(output: Sequence[Mapping[str, Any]]) -> Pair:
    """The answer and the raters who are there."""
    return [item["pred"] for item in output], [present_raters(item["label"]) for item in output]


def _of_nonempty_raters(output: Sequence[Mapping[str, Any]]) -> Pair:
    probabilities, labels = _probabilities(output)
    return probabilities, [drop_empty_raters(label) for label in labels or []]


def _answer_to(output: Sequence[Mapping[str, Any]], rater: int, nonempty: bool) -> Pair:
    """Two empty maps in the place of a rater who is missing: of two the surface Dice is undefined, of one it is 0."""
    answers, labels = [], []
    for item in output:
        answer, label, weights = item["pred"], item["label"], weights_of(item["label"])
        if _is_missing(label, rater, nonempty):
            answer, label = torch.zeros_like(answer), label.clone()
            label[rater] = 0
        answers.append(answer)
        labels.append(label if weights is None else with_weights(label, torch.ones_like(weights)))
    return answers, labels


def _probabilities_to(output: Sequence[Mapping[str, Any]], rater: int, nonempty: bool) -> Pair:
    """Marginal probabilities and one rater; for one who is missing sure background, whose calibration is undefined."""
    probabilities, labels = [], []
    for item in output:
        p, label = (item[key].as_subclass(torch.Tensor) for key in ("probabilities", "label"))
        one = label[rater : rater + 1]
        if _is_missing(item["label"], rater, nonempty):
            p, one = torch.zeros_like(p), torch.zeros_like(one)
            p[0] = 1
        probabilities.append(p)
        labels.append(one)
    return probabilities, labels


def _is_missing(label: torch.Tensor, rater: int, nonempty: bool) -> bool:
    """Whether a rater has weight 0 or, where that is no answer, drew nothing."""
    weights = weights_of(label)
    return bool((weights is not None and not weights[rater] > 0) or (nonempty and not label[rater].any()))


def _structures(task: Task) -> dict[str, TaskMetric]:
    """Surface Dice, where there are several raters with the Dice against each."""
    if task.num_raters == 1:
        return {"surface_dice": TaskMetric(RegionSurfaceDiceMetric(_TOLERANCE, task.regions), _answer)}
    metrics = {}
    for rater in range(task.num_raters):
        named = {f"{name}_rater{rater}": classes for name, classes in task.regions.items()}
        answer = partial(_answer_to, rater=rater, nonempty=task.nonempty_raters)
        dice = RegionDiceMetric({f"dice_{name}": classes for name, classes in named.items()}, rater=rater)
        metrics[f"dice_rater{rater}"] = TaskMetric(dice, answer)
        surface = RegionSurfaceDiceMetric(_TOLERANCE, named, rater=rater)
        metrics[f"surface_dice_rater{rater}"] = TaskMetric(surface, answer)
    return metrics


def _calibration(task: Task) -> dict[str, AdaptiveCalibrationErrorMetric | ItemCalibrationErrorMetric]:
    """Adaptive, of all classes as Islam and Glocker evaluate it too, and both errors of each class."""
    foreground = range(1, task.num_classes)
    metrics: dict[str, AdaptiveCalibrationErrorMetric | ItemCalibrationErrorMetric] = {
        "tace": AdaptiveCalibrationErrorMetric(classes=foreground),
        "tace_svls": AdaptiveCalibrationErrorMetric(classes=foreground, weighting="svls"),
    }
    for index in foreground:
        name = task.class_names[index]
        metrics[f"ece_{name}"] = ItemCalibrationErrorMetric(kind="class", class_index=index)
        if len(foreground) > 1:
            metrics[f"tace_{name}"] = AdaptiveCalibrationErrorMetric(classes=[index])
    return metrics


def _calibration_to_each(task: Task) -> dict[str, TaskMetric]:
    """Where there are several raters, the calibration against each, as Islam and Glocker give it of LIDC's four."""
    if task.num_raters == 1:
        return {}
    foreground = range(1, task.num_classes)
    metrics = {}
    for rater in range(task.num_raters):
        one = partial(_probabilities_to, rater=rater, nonempty=task.nonempty_raters)
        metrics[f"ece_rater{rater}"] = TaskMetric(ItemCalibrationErrorMetric(foreground_only=True), one)
        for name, weighting in (("tace", "equal"), ("tace_svls", "svls")):
            tace = AdaptiveCalibrationErrorMetric(classes=foreground, weighting=weighting)
            metrics[f"{name}_rater{rater}"] = TaskMetric(tace, one)
    return metrics
