# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from monai.handlers import IgniteMetricHandler
from monai.metrics import CumulativeIterationMetric, MAEMetric
from torch import nn

from monai_stochseg.bundle.training import statistics
from monai_stochseg.handlers import CaseTable, SampleFigure, WeightsLoader
from monai_stochseg.metrics import (
    AmbiguityAccuracyMetric,
    BrierScoreMetric,
    DiversityCorrelationMetric,
    EmptyFractionCorrelationMetric,
    EnergyDistanceCurveMetric,
    ExpectedCalibrationErrorMetric,
    GeneralizedEnergyDistanceMetric,
    HungarianMatchedIoUMetric,
    PooledMetric,
    RaterDiceMetric,
    SampleDiversityMetric,
    WeightedMaps,
    from_evaluator,
)

CURVE = (1, 2, 4, 8, 16, 32, 50, 100)  # numbers of samples at which the energy distance is told


# A metric, made for a number of classes, and which entries of an evaluator's output it takes.
_SAMPLES = ("samples", "label")
_METRICS: Mapping[str, tuple[Callable[[int], CumulativeIterationMetric], tuple[str, ...]]] = {
    "ged": (GeneralizedEnergyDistanceMetric, _SAMPLES),
    "ged_curve": (partial(EnergyDistanceCurveMetric, CURVE), _SAMPLES),
    "hm_iou": (HungarianMatchedIoUMetric, _SAMPLES),
    "diversity": (SampleDiversityMetric, ("samples",)),
    "rater_diversity": (SampleDiversityMetric, ("label",)),
    "dice": (RaterDiceMetric, _SAMPLES),
    "dice_nonempty": (partial(RaterDiceMetric, nonempty_raters=True), _SAMPLES),
    "ambiguity": (lambda num_classes: AmbiguityAccuracyMetric(), _SAMPLES),
    "diversity_correlation": (DiversityCorrelationMetric, _SAMPLES),
    "empty_correlation": (lambda num_classes: EmptyFractionCorrelationMetric(), _SAMPLES),
    "ece": (lambda num_classes: ExpectedCalibrationErrorMetric(), ("probabilities", "label")),
    "brier": (lambda num_classes: BrierScoreMetric(), ("pred", "label")),
    "calibration_gap": (lambda num_classes: MAEMetric(), ("probabilities", "pred")),
}


def sample_metrics(
    num_classes: int, names: Sequence[str], first: Mapping[str, int] | None = None
) -> dict[str, IgniteMetricHandler]:
    """
    Metrics of samples against readers, for MONAI's evaluators, with the weights of both, see
    :py:func:`monai_stochseg.metrics.from_evaluator`.

    Args:
        num_classes: number of classes, the background included.
        names: any of ``ged``, ``ged_curve`` (at ``CURVE``'s numbers of samples), ``hm_iou``, ``diversity``,
            ``rater_diversity``, ``dice``, ``dice_nonempty`` (on readers who drew), ``ambiguity``,
            ``diversity_correlation``, ``empty_correlation``, ``ece``, ``brier`` (of the single answer) and
            ``calibration_gap``, the mean absolute difference between the samples' mean and the single answer.
        first: metrics that judge only so many of the samples, by name; they must weigh the same, as for ``ged_curve``.

    Raises:
        ValueError: for another name.
    """
    if unknown := [name for name in names if name not in _METRICS]:
        raise ValueError(f"names must be of {sorted(_METRICS)}, got {unknown}.")
    handlers = {}
    for name in names:
        make, keys = _METRICS[name]
        transform = partial(_columns, keys=keys, first=(first or {}).get(name))
        handlers[name] = IgniteMetricHandler(metric_fn=make(num_classes), output_transform=transform)
    return handlers


def _columns(output: list[dict], keys: tuple[str, ...], first: int | None) -> tuple[list, list | None]:
    """What a metric is called with: a list of items for ``y_pred``, and one for ``y`` or None."""
    y_pred, y = from_evaluator(keys)(output)
    if first is None:
        return y_pred, y
    if any(isinstance(samples, WeightedMaps) for samples in y_pred):
        raise ValueError(f"first={first} needs samples that weigh the same, got weights: judge all of them.")
    return [samples[:first] for samples in y_pred], y


def validation_handlers(output_dir: str, class_names: Sequence[str], **figure: Any) -> list[Any]:
    """
    The handlers of every bundle's evaluator in training: the figure of the best epoch, and statistics.

    Args:
        output_dir: folder of the figure.
        class_names: names of the classes, the background first.
        figure: further arguments of :py:class:`monai_stochseg.handlers.SampleFigure`.
    """
    samples = SampleFigure(os.path.join(output_dir, "samples.png"), class_names, **figure)
    return [samples, *statistics("validation")]


def evaluation_handlers(
    network: nn.Module,
    checkpoint: str,
    output_dir: str,
    part: str,
    class_names: Sequence[str],
    metrics: Mapping[str, CumulativeIterationMetric],
    **figure: Any,
) -> list[Any]:
    """
    The handlers of an evaluation: weights, a table with a row a case, a figure.

    Args:
        network: the network.
        checkpoint: where its weights are.
        output_dir: folder of the table and the figure.
        part: of the split, in their names.
        class_names: names of the classes, the background first.
        metrics: columns of the table; those whose value is no mean over cases are left out.
        figure: further arguments of :py:class:`monai_stochseg.handlers.SampleFigure`.
    """
    of_cases = {name: metric for name, metric in metrics.items() if not isinstance(metric, PooledMetric)}
    return [
        WeightsLoader(network, checkpoint),
        CaseTable(os.path.join(output_dir, f"evaluation_{part}.csv"), of_cases),
        SampleFigure(os.path.join(output_dir, f"samples_{part}.png"), class_names, **figure),
    ]
