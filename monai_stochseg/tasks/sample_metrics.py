# SPDX-License-Identifier: Apache-2.0
"""Metrics of samples against raters by name."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from monai.metrics import CumulativeIterationMetric, MAEMetric

from monai_stochseg.distributions import weights_of, with_weights
from monai_stochseg.metrics import (
    AmbiguityAccuracyMetric,
    BrierScoreMetric,
    CaseDiceMetric,
    DiversityCorrelationMetric,
    EmptyFractionCorrelationMetric,
    EnergyDistanceCurveMetric,
    EntropyDecompositionMetric,
    ExpectedCalibrationErrorMetric,
    GeneralizedEnergyDistanceMetric,
    HungarianMatchedIoUMetric,
    LabelMapDistance,
    PredictiveEntropyMetric,
    RaterDiceMetric,
    SampleDiversityMetric,
    WeightEntropyMetric,
)

__all__ = [
    "CURVE",
    "TaskMetric",
    "answer",
    "answer_and_samples",
    "entries",
    "first_samples",
    "known_voxels",
    "present_raters",
    "sample_metric",
    "uncertainty_draws",
]

CURVE = (1, 2, 4, 8, 16, 32, 50, 100)  # numbers of samples at which the energy distance is given

Pair = tuple[list, list | None]


class TaskMetric(NamedTuple):
    """
    A metric and what it judges.

    Args:
        metric: one of MONAI's kind.
        output_transform: takes an evaluator's decollated output to the lists ``y_pred`` and ``y``, or None for ``y``.
    """

    metric: CumulativeIterationMetric
    output_transform: Callable[[Sequence[Mapping[str, Any]]], Pair]


def entries(*keys: str) -> Callable[[Sequence[Mapping[str, Any]]], Pair]:
    """
    The ``output_transform`` of one or two entries; as MONAI's ``from_engine``, but of one entry a pair too.

    Args:
        keys: that of ``y_pred``, and perhaps that of ``y``.
    """
    return partial(_entries, keys=keys)


def _entries(output: Sequence[Mapping[str, Any]], keys: tuple[str, ...]) -> Pair:
    y_pred, *y = ([item[key] for item in output] for key in keys)
    return y_pred, y[0] if y else None


def present_raters(label: torch.Tensor) -> torch.Tensor:
    """
    The raters of a case who are there, for a metric that knows no weights.

    Args:
        label: ``[R, *S]``, with the raters' weights where they do not weigh the same.

    Returns:
        ``[R', *S]``, without those of weight 0.
    """
    weights = weights_of(label)
    return label if weights is None else with_weights(label[weights > 0], weights[weights > 0])


def first_samples(metric: TaskMetric, number: int) -> TaskMetric:
    """The same metric on the first samples alone; they must weigh the same."""
    return metric._replace(output_transform=partial(_first_samples, metric.output_transform, number))


def _first_samples(output_transform: Callable, number: int, output: Sequence[Mapping[str, Any]]) -> Pair:
    y_pred, y = output_transform(output)
    if any(weights_of(samples) is not None for samples in y_pred):
        raise ValueError(f"first={number} needs samples that weigh the same, got weights: judge all of them.")
    return [samples[:number] for samples in y_pred], y


def answer(output: Sequence[Mapping[str, Any]]) -> Pair:
    """The label map of the single answer, whose probabilities the evaluator gives, and the raters."""
    return [item["pred"].argmax(0, keepdim=True) for item in output], [item["label"] for item in output]


def answer_and_samples(output: Sequence[Mapping[str, Any]]) -> Pair:
    """The single answer and then the samples, and the raters who are there. The answer has no weight among them."""
    maps = []
    for item in output:
        samples = item["samples"]
        one = item["pred"].argmax(0, keepdim=True).to(samples)
        both = torch.cat([one, samples]).as_subclass(torch.Tensor)
        weights = weights_of(samples)
        maps.append(both if weights is None else with_weights(both, torch.cat([weights.new_zeros(1), weights])))
    return maps, [present_raters(item["label"]) for item in output]


def _case_dice(distance: LabelMapDistance) -> CaseDiceMetric:
    return CaseDiceMetric({str(index): (index,) for index in distance.compared if index > 0})


_SAMPLES = entries("samples", "label")
_CALIBRATION = entries("probabilities", "label")
_UNCERTAINTY = re.compile(r"uncertainty(?:_(\d+)x(\d+))?")
_UNCERTAINTY_DRAWS = (10, 10)
_ANSWER_OF_RATER = re.compile(r"mode_dice_rater(\d+)")
_METRICS: Mapping[str, tuple[Callable[[LabelMapDistance], CumulativeIterationMetric], Callable[..., Pair]]] = {
    "ged": (GeneralizedEnergyDistanceMetric, _SAMPLES),
    "ged_curve": (partial(EnergyDistanceCurveMetric, CURVE), _SAMPLES),
    "hm_iou": (HungarianMatchedIoUMetric, _SAMPLES),
    "diversity": (SampleDiversityMetric, entries("samples")),
    "rater_diversity": (SampleDiversityMetric, entries("label")),
    "dice": (RaterDiceMetric, _SAMPLES),
    "dice_nonempty": (partial(RaterDiceMetric, nonempty_raters=True), _SAMPLES),
    "ambiguity": (lambda distance: AmbiguityAccuracyMetric(), _SAMPLES),
    "diversity_correlation": (DiversityCorrelationMetric, _SAMPLES),
    "empty_correlation": (lambda distance: EmptyFractionCorrelationMetric(), _SAMPLES),
    "mode_dice": (RaterDiceMetric, answer),
    "mode_dice_nonempty": (partial(RaterDiceMetric, nonempty_raters=True), answer),
    "case_dice": (_case_dice, answer_and_samples),
    "ece": (lambda distance: ExpectedCalibrationErrorMetric(), _CALIBRATION),
    "ece_foreground": (lambda distance: ExpectedCalibrationErrorMetric(kind="class"), _CALIBRATION),
    "entropy": (lambda distance: PredictiveEntropyMetric(), _CALIBRATION),
    "weight_entropy": (lambda distance: WeightEntropyMetric(), entries("samples")),
    "brier": (lambda distance: BrierScoreMetric(), entries("pred", "label")),
    "calibration_gap": (lambda distance: MAEMetric(), entries("probabilities", "pred")),
}


def sample_metric(name: str, distance: LabelMapDistance) -> TaskMetric:
    """
    A metric of samples against raters.

    Args:
        name: ``ged``, ``ged_curve`` (at ``CURVE``'s numbers of samples), ``hm_iou``, ``diversity``,
            ``rater_diversity``, ``dice``, ``dice_nonempty`` (on raters who drew), ``ambiguity``,
            ``diversity_correlation``, ``empty_correlation``, ``ece`` (of the most probable class), ``ece_foreground``
            (of the foreground, all its classes together), ``entropy`` (of the samples' mean probabilities),
            ``weight_entropy`` (of the samples' weights), ``brier`` (of the single answer), ``calibration_gap``, the
            mean absolute difference between the samples' mean and the single answer, and of the single answer
            ``mode_dice``, ``mode_dice_nonempty``, ``mode_dice_rater0`` (the first rater) and ``case_dice``, where its
            Dice over all classes stands among the samples'. Of a network with random weights ``uncertainty``: entropy
            of the prediction and its aleatoric and epistemic parts, by 10 draws of the weights and 10 samples with
            each; ``uncertainty_20x50`` by 20 and 50.
        distance: between two label maps; it has the number of classes and the void label.

    Raises:
        ValueError: for another name.
    """
    if one := _ANSWER_OF_RATER.fullmatch(name):
        return TaskMetric(RaterDiceMetric(distance, rater=int(one[1])), answer)
    if uncertainty_draws([name]):
        return TaskMetric(_UncertaintyMetric(), partial(_weight_draws, distance.ignore_index))
    if name not in _METRICS:
        raise ValueError(f"metrics must be of {sorted([*_METRICS, 'uncertainty'])}, got {name!r}.")
    make, output_transform = _METRICS[name]
    if name in ("ece", "ece_foreground", "entropy", "brier") and distance.ignore_index is not None:
        output_transform = partial(known_voxels, output_transform, distance.ignore_index)
    if name == "ece_foreground":
        output_transform = partial(_foreground, output_transform)
    if name == "entropy":
        output_transform = partial(_first, output_transform)
    return TaskMetric(make(distance), output_transform)


def uncertainty_draws(names: Iterable[str]) -> tuple[int, int] | None:
    """
    How many draws of the weights, and samples with each, the metrics of these names ask the evaluator for; None: none.

    Raises:
        ValueError: when two of them ask for different numbers.
    """
    matches = [match for match in map(_UNCERTAINTY.fullmatch, names) if match]
    found = {(int(m[1]), int(m[2])) if m[1] else _UNCERTAINTY_DRAWS for m in matches}
    if len(found) > 1:
        raise ValueError(f"metrics must ask for one number of draws of the weights, got {sorted(found)}.")
    return next(iter(found), None)


class _UncertaintyMetric(EntropyDecompositionMetric):
    """The same entropies by what they are of a network with random weights."""

    @property
    def names(self) -> list[str]:
        return ["uncertainty", "aleatoric_uncertainty", "epistemic_uncertainty"]


def _weight_draws(ignore_index: int | None, output: Sequence[Mapping[str, Any]]) -> Pair:
    """Probabilities given each draw of the weights, ``[W, C, 1, V]`` of the voxels that no rater calls void."""
    probabilities = []
    for item in output:
        given = item["weight_probabilities"].as_subclass(torch.Tensor)
        known = torch.ones(given.shape[2:], dtype=torch.bool, device=given.device)
        if ignore_index is not None:
            known = (item["label"].as_subclass(torch.Tensor) != ignore_index).all(0).to(given.device)
        probabilities.append(given[:, :, known][:, :, None])
    return probabilities, None


def _first(output_transform: Callable, output: Sequence[Mapping[str, Any]]) -> Pair:
    return output_transform(output)[0], None


def _foreground(output_transform: Callable, output: Sequence[Mapping[str, Any]]) -> Pair:
    """Background and foreground, ``[2, *S]``, and raters with the same two classes."""
    probabilities, labels = output_transform(output)
    both = [
        torch.stack([p[0], p[1:].sum(0).clamp(max=1)]) for p in (p.as_subclass(torch.Tensor) for p in probabilities)
    ]
    y = [with_weights((label.as_subclass(torch.Tensor) > 0).byte(), weights_of(label)) for label in labels]
    return both, y


def known_voxels(output_transform: Callable, ignore_index: int, output: Sequence[Mapping[str, Any]]) -> Pair:
    """Probabilities ``[C, 1, V]`` and raters ``[R, 1, V]`` of the voxels that no rater calls void."""
    probabilities, labels = output_transform(output)
    known = [(label.as_subclass(torch.Tensor) != ignore_index).all(0) for label in labels]
    y = [
        with_weights(label.as_subclass(torch.Tensor)[:, None, inside], weights_of(label))
        for label, inside in zip(labels, known, strict=True)
    ]
    return [p.as_subclass(torch.Tensor)[:, None, k] for p, k in zip(probabilities, known, strict=True)], y
