# SPDX-License-Identifier: Apache-2.0
"""Evaluator and predictor of the bundles whose network gives one answer, judged by its structures and calibration."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from monai.engines import SupervisedEvaluator
from monai.handlers import IgniteMetricHandler, from_engine
from monai.inferers import Inferer, SimpleInferer
from monai.metrics import CumulativeIterationMetric
from monai.transforms import Activationsd, AsDiscreted, Compose, CopyItemsd
from torch import nn

from monai_stochseg.bundle.loaders import evaluation_loader
from monai_stochseg.bundle.prediction import save_predictions
from monai_stochseg.bundle.runtime import has_bfloat16
from monai_stochseg.bundle.targets import drop_empty_raters
from monai_stochseg.bundle.training import statistics
from monai_stochseg.data import CaseDataset
from monai_stochseg.handlers import CaseTable, ReliabilityFigure, WeightsLoader
from monai_stochseg.metrics import (
    AdaptiveCalibrationErrorMetric,
    ExpectedCalibrationErrorMetric,
    ItemCalibrationErrorMetric,
    RegionDiceMetric,
    RegionSurfaceDiceMetric,
)

_ANSWER = from_engine(["pred", "label"])
_PROBABILITIES = from_engine(["probabilities", "label"])


def segmentation_evaluator(
    network: nn.Module,
    cases: Sequence[Mapping[str, Any]],
    transforms: Sequence[Callable],
    regions: Mapping[str, Sequence[int]],
    class_names: Sequence[str],
    output_dir: str,
    device: torch.device,
    checkpoint: str | None = None,
    part: str = "validation",
    tolerance: float = 2.0,
    num_raters: int = 1,
    nonempty_raters: bool = False,
    inferer: Inferer | None = None,
    model_name: str = "model",
    num_workers: int = 0,
    cache_rate: float = 1.0,
    amp: bool | None = None,
) -> SupervisedEvaluator:
    """
    The evaluator of a network that gives logits ``[B, C, *S]``: Dice of regions (the key metric is their mean) and
    calibration; with a checkpoint surface Dice and the calibration of each class too.

    Args:
        network: the network.
        cases: of a datalist.
        transforms: give ``image`` and the raters' hard ``label`` ``[R, *S]``.
        regions: classes that make a structure, by its name.
        class_names: names of the classes, the background first.
        output_dir: folder of ``evaluation_<part>.csv`` and ``reliability_<part>.png``.
        device: where the network is.
        checkpoint: weights to load; the table and the figure are written then. Default: the network as it is.
        part: of the split, in the files' names.
        tolerance: of the surface Dice, in mm.
        num_raters: Dice is told against each of so many raters where there are several.
        nonempty_raters: whether a rater who drew nothing is missing from calibration and surface Dice, as from the
            Dice, see :py:func:`monai_stochseg.bundle.drop_empty_raters`.
        inferer: default: whole volumes.
        model_name: in the figure.
        num_workers: processes that fill the cache.
        cache_rate: share of the cases kept in memory.
        amp: bfloat16 autocast; default: on a GPU that has it.
    """
    probabilities = _of_nonempty_raters if nonempty_raters else _PROBABILITIES
    judged: dict[str, tuple[CumulativeIterationMetric, Any]] = {
        "val_dice": (RegionDiceMetric({f"dice_{name}": classes for name, classes in regions.items()}), _ANSWER),
        "val_ece": (ItemCalibrationErrorMetric(foreground_only=True), probabilities),
    }
    own: list[Any] = statistics("validation")
    if checkpoint is not None:
        structures = _structures(regions, tolerance, num_raters, nonempty_raters)
        calibration = {name: (metric, probabilities) for name, metric in _calibration(class_names).items()}
        table = {"dice": judged["val_dice"], **structures, "ece": judged["val_ece"], **calibration}
        if num_raters > 1:
            del table["dice"]  # it stands there against each rater
        bins = ExpectedCalibrationErrorMetric()
        judged |= structures | calibration
        judged["reliability"] = (bins, probabilities)
        own = [
            WeightsLoader(network, checkpoint),
            CaseTable(
                os.path.join(output_dir, f"evaluation_{part}.csv"),
                {name: metric for name, (metric, _) in table.items()},
                std=True,
            ),
            ReliabilityFigure(os.path.join(output_dir, f"reliability_{part}.png"), bins, model_name),
        ]
    transform = Compose(list(transforms))
    dataset = CaseDataset(cases, transform, num_workers=num_workers, cache_rate=cache_rate, progress=False)
    return SupervisedEvaluator(
        device=device,
        val_data_loader=evaluation_loader(dataset),
        network=network,
        inferer=SimpleInferer() if inferer is None else inferer,
        postprocessing=answer_and_probabilities(),
        key_val_metric={
            name: IgniteMetricHandler(metric_fn=metric, output_transform=output)
            for name, (metric, output) in judged.items()
        },
        val_handlers=own,
        amp=has_bfloat16(device) if amp is None else amp,
        amp_kwargs={"dtype": torch.bfloat16},
    )


def answer_and_probabilities() -> Compose:
    """Logits in ``pred`` to the label map in ``pred`` and the softmax in ``probabilities``."""
    return Compose(
        [
            Activationsd(keys="pred", softmax=True),
            CopyItemsd(keys="pred", names="probabilities"),
            AsDiscreted(keys="pred", argmax=True),
        ]
    )


def _of_nonempty_raters(output: list[dict]) -> tuple[list, list]:
    probabilities, labels = _PROBABILITIES(output)
    return probabilities, [drop_empty_raters(label) for label in labels]


def _answer_to(output: list[dict], rater: int) -> tuple[list, list]:
    """Nothing is asked where a rater is missing: of two empty maps the surface Dice is undefined, of one it is 0."""
    answers, labels = _ANSWER(output)
    return [a if y[rater].any() else torch.zeros_like(a) for a, y in zip(answers, labels, strict=True)], labels


def _structures(
    regions: Mapping[str, Sequence[int]], tolerance: float, num_raters: int, nonempty_raters: bool
) -> dict[str, tuple[CumulativeIterationMetric, Any]]:
    """Surface Dice, where there are several raters with the Dice against each."""
    if num_raters == 1:
        return {"surface_dice": (RegionSurfaceDiceMetric(tolerance, regions), _ANSWER)}
    metrics: dict[str, tuple[CumulativeIterationMetric, Any]] = {}
    for rater in range(num_raters):
        named = {f"{name}_rater{rater}": classes for name, classes in regions.items()}
        of_dice = {f"dice_{name}": classes for name, classes in named.items()}
        answer = partial(_answer_to, rater=rater) if nonempty_raters else _ANSWER
        metrics[f"dice_rater{rater}"] = (RegionDiceMetric(of_dice, rater=rater), answer)
        metrics[f"surface_dice_rater{rater}"] = (RegionSurfaceDiceMetric(tolerance, named, rater=rater), answer)
    return metrics


def _calibration(class_names: Sequence[str]) -> dict[str, CumulativeIterationMetric]:
    """Adaptive, of all classes as Islam and Glocker evaluate it too, and both errors of each class."""
    foreground = range(1, len(class_names))
    metrics: dict[str, CumulativeIterationMetric] = {
        "tace": AdaptiveCalibrationErrorMetric(classes=foreground),
        "tace_svls": AdaptiveCalibrationErrorMetric(classes=foreground, weighting="svls"),
    }
    for index in foreground:
        name = class_names[index]
        metrics[f"ece_{name}"] = ItemCalibrationErrorMetric(kind="class", class_index=index)
        if len(foreground) > 1:
            metrics[f"tace_{name}"] = AdaptiveCalibrationErrorMetric(classes=[index])
    return metrics


def segmentation_predictor(
    network: nn.Module,
    cases: Sequence[Mapping[str, Any]],
    transforms: Sequence[Callable],
    output_dir: str,
    device: torch.device,
    checkpoint: str,
    inferer: Inferer | None = None,
    amp: bool | None = None,
) -> SupervisedEvaluator:
    """
    Inference of a network that gives logits ``[B, C, *S]``: NIfTI of the label map and of the predictive entropy, in
    the grid of the input.

    Args:
        network: the network.
        cases: of a datalist.
        transforms: give ``image``; they are inverted.
        output_dir: where the files go.
        device: where the network is.
        checkpoint: weights to load.
        inferer: default: whole volumes.
        amp: bfloat16 autocast; default: on a GPU that has it.
    """
    transform = Compose(list(transforms))
    return SupervisedEvaluator(
        device=device,
        val_data_loader=evaluation_loader(CaseDataset(cases, transform, cache_rate=0.0, progress=False)),
        network=network,
        inferer=SimpleInferer() if inferer is None else inferer,
        postprocessing=Compose(
            [
                Activationsd(keys="pred", softmax=True),
                CopyItemsd(keys="pred", names="probabilities"),
                save_predictions(output_dir, transform, samples=False),
            ]
        ),
        val_handlers=[WeightsLoader(network, checkpoint)],
        amp=has_bfloat16(device) if amp is None else amp,
        amp_kwargs={"dtype": torch.bfloat16},
    )
