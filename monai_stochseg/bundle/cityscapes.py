# SPDX-License-Identifier: Apache-2.0
"""Trainer, evaluator and predictor of the multimodal Cityscapes task (Kohl et al. 2018)."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine
from monai.engines import SupervisedTrainer
from monai.handlers import IgniteMetricHandler
from monai.inferers import Inferer
from monai.metrics import CumulativeIterationMetric
from monai.transforms import Compose, RandFlipd, RandSpatialCropd, RandZoomd
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from monai_stochseg.bundle.evaluation import evaluation_handlers, validation_handlers
from monai_stochseg.bundle.loaders import evaluation_loader
from monai_stochseg.bundle.prediction import save_predictions
from monai_stochseg.bundle.rater_weights import trainer_with_rater_weights
from monai_stochseg.bundle.runtime import has_bfloat16
from monai_stochseg.bundle.training import make_trainer, statistics
from monai_stochseg.data import (
    CITYSCAPES_CLASSES,
    CITYSCAPES_SWITCHED_CLASSES,
    CITYSCAPES_SWITCHES,
    SPLITS,
    CaseDataset,
    CaseError,
    cityscapes_datalist,
    split_cases,
)
from monai_stochseg.data.cityscapes import CITYSCAPES_VOID
from monai_stochseg.data.simulated_streets import MARK
from monai_stochseg.engines import StochasticEvaluator
from monai_stochseg.handlers import MetricFigure, WeightsLoader
from monai_stochseg.metrics import (
    GeneralizedEnergyDistanceMetric,
    HungarianMatchedIoUMetric,
    ModeFrequencyMetric,
    PixelFlipRatioMetric,
    SampleDiversityMetric,
    from_evaluator,
)
from monai_stochseg.transforms import ClassSwitchModesd, LoadCityscapesd, RandClassSwitchd
from monai_stochseg.visualize import plot_flip_ratio, plot_mode_frequency

CLASS_NAMES = tuple(CITYSCAPES_SWITCHED_CLASSES)
_NUM_CLASSES = len(CLASS_NAMES)
_WEIGHTS_KEY = "label_weights"
_RGB = 3

# Cityscapes' own colours; those of what a class becomes are far from its own.
_COLOURS = (
    *("#804080", "#f423e8", "#464646", "#66669c", "#be9999", "#999999", "#faaa1e", "#dcdc00", "#6b8e23", "#98fb98"),
    *("#4682b4", "#dc143c", "#ff0000", "#00008e", "#000046", "#003c64", "#005064", "#0000e6", "#770b20"),
    *("#fffac8", "#00ffff", "#ff7f00", "#ffb0d0", "#00c8a0"),
)


def cityscapes_channels(predictions_dir: str | os.PathLike | None = None) -> int:
    """
    The number of channels of the network's input: 3 of the image, and those of another model's predictions.

    Args:
        predictions_dir: folder of predictions, see :py:func:`monai_stochseg.data.cityscapes_datalist`; None: none.

    Raises:
        CaseError: when the folder holds no prediction.
    """
    if predictions_dir is None:
        return _RGB
    files = sorted(Path(predictions_dir).expanduser().glob("*.npy"))
    if not files:
        raise CaseError(f"predictions_dir: {predictions_dir} holds no prediction CITY_000000_000019.npy.")
    return _RGB + len(np.load(files[0], mmap_mode="r"))


def cityscapes_part(
    dataset_dir: str | os.PathLike, part: str, predictions_dir: str | os.PathLike | None = None
) -> list[dict[str, Any]]:
    """
    The datalist of one part of a folder of Cityscapes.

    Args:
        dataset_dir: the folder, real or simulated, see docs/cityscapes.md.
        part: ``train``, ``validation`` or ``test``.
        predictions_dir: folder of another model's predictions.

    Raises:
        CaseError: when the folder is not usable, a prediction is missing, or the part is unknown or empty.
    """
    if part not in SPLITS:
        raise CaseError(f"part must be one of {SPLITS}, got {part!r}.")
    cases = split_cases(cityscapes_datalist(dataset_dir, predictions_dir))[part]
    if not cases:
        raise CaseError(f"part {part!r} is empty: {dataset_dir} has none of its cities.")
    return cases


def scale_crop_and_flip(
    spatial_size: Sequence[int], crop_size: Sequence[int], scale: Sequence[float]
) -> list[Callable]:
    """
    The augmentation of ``image`` and ``label``: scale the scene, take a crop of it, mirror it left to right.

    Args:
        spatial_size: H and W of the scene.
        crop_size: H and W of the crop.
        scale: lowest and highest factor.

    Raises:
        ValueError: when the crop does not fit into the scene at the lowest factor.
    """
    if len(scale) != 2 or not 0 < scale[0] <= scale[1]:
        raise ValueError(f"scale must be the lowest and the highest factor, got {list(scale)}.")
    smallest = [int(size * scale[0]) for size in spatial_size]
    if any(crop > size for crop, size in zip(crop_size, smallest, strict=True)):
        raise ValueError(
            f"crop_size {list(crop_size)} does not fit into a scene of {list(spatial_size)} scaled by {scale[0]}, "
            f"{smallest}."
        )
    keys = ["image", "label"]
    return [
        RandZoomd(keys, 1.0, scale[0], scale[1], mode=["bilinear", "nearest"], keep_size=False),
        RandSpatialCropd(keys, crop_size, random_size=False),
        RandFlipd(keys, prob=0.5, spatial_axis=1),
    ]


def cityscapes_trainer(
    network: nn.Module,
    loss: nn.Module,
    optimizer: Optimizer,
    lr_scheduler: LRScheduler,
    evaluator: Engine,
    dataset_dir: str,
    parameters: Mapping[str, Any],
    augmentation: Sequence[Callable],
    spatial_size: Sequence[int] = (256, 512),
    predictions_dir: str | None = None,
    all_modes: bool = True,
    num_workers: int = 0,
    cache_rate: float = 1.0,
    **kwargs: Any,
) -> SupervisedTrainer:
    """
    The trainer on scenes of which classes are switched.

    Args:
        network: on its device, and wrapped where training is distributed.
        loss: takes the network's output and labels ``[B, M, *S]``; with ``all_modes`` their weights ``[B, M]`` too.
        optimizer: of the network.
        lr_scheduler: stepped each epoch.
        evaluator: validates before training and every ``val_interval`` epochs.
        dataset_dir: a folder of Cityscapes; whether it is simulated is logged with the run's parameters.
        parameters: what the run was made with, for MLflow.
        augmentation: random transforms of ``image`` and ``label``, before the classes are switched.
        spatial_size: H and W to which scenes are made smaller.
        predictions_dir: folder of another model's predictions, further channels of the image.
        all_modes: whether the label is all 32 modes with their probabilities, as in Gao et al. 2023; or else one draw,
            another one each time.
        num_workers: processes that load.
        cache_rate: share of the scenes kept in memory.
        kwargs: further arguments of :py:func:`monai_stochseg.bundle.make_trainer`.
    """
    switch = ClassSwitchModesd if all_modes else RandClassSwitchd
    transforms = [
        LoadCityscapesd(spatial_size),
        *augmentation,
        switch("label", CITYSCAPES_SWITCHES, _NUM_CLASSES),
    ]
    return make_trainer(
        network,
        loss,
        optimizer,
        lr_scheduler,
        evaluator,
        CaseDataset(
            cityscapes_part(dataset_dir, "train", predictions_dir),
            Compose(transforms),
            num_workers=num_workers,
            cache_rate=cache_rate,
            progress=False,
        ),
        parameters={**parameters, "dataset_dir": dataset_dir, "simulated": _is_simulated(dataset_dir)},
        num_workers=num_workers,
        trainer_class=partial(trainer_with_rater_weights, _WEIGHTS_KEY) if all_modes else SupervisedTrainer,
        **kwargs,
    )


def cityscapes_evaluator(
    network: nn.Module,
    dataset_dir: str,
    output_dir: str,
    device: torch.device,
    part: str = "validation",
    checkpoint: str | None = None,
    num_samples: int = 16,
    spatial_size: Sequence[int] = (256, 512),
    predictions_dir: str | None = None,
    batch_size: int = 1,
    num_workers: int = 0,
    cache_rate: float = 1.0,
    inferer: Inferer | None = None,
    amp: bool | None = None,
    chunk_size: int = 1,
    model_name: str = "model",
) -> StochasticEvaluator:
    """
    The evaluator of a part of Cityscapes against all 32 modes and their probabilities, by the classes that may be
    switched and what they become: energy distance (the key metric), matched IoU, diversity, mode frequency, flip ratio.

    Args:
        network: with ``predictive``.
        dataset_dir: a folder of Cityscapes.
        output_dir: folder of the figures and the table.
        device: where the network is.
        part: ``train``, ``validation`` or ``test``.
        checkpoint: weights to load; a table ``evaluation_<part>.csv`` and the figures ``mode_frequency_<part>.png`` and
            ``flip_ratio_<part>.png`` are written then. Default: the network as it is, for validation in training.
        num_samples: samples of each scene.
        spatial_size: H and W to which scenes are made smaller.
        predictions_dir: folder of another model's predictions, further channels of the image.
        batch_size: scenes at a time.
        num_workers: processes that load.
        cache_rate: share of the scenes kept in memory, with 32 modes each.
        inferer: default: whole scenes, by :py:class:`monai_stochseg.inferers.PredictiveInferer`.
        amp: bfloat16 autocast; default: on a GPU that has it.
        chunk_size: samples held as logits at a time.
        model_name: in the figures.
    """
    modes = ClassSwitchModesd("label", CITYSCAPES_SWITCHES, _NUM_CLASSES, _WEIGHTS_KEY)
    dataset = CaseDataset(
        cityscapes_part(dataset_dir, part, predictions_dir),
        Compose([LoadCityscapesd(spatial_size), modes]),
        num_workers=num_workers,
        cache_rate=cache_rate,
        progress=False,
    )
    metrics = _metrics()
    figure: dict[str, Any] = {
        "indexing": "ij",
        "title": "simulated streets" if _is_simulated(dataset_dir) else None,
        "max_raters": 6,
        "max_samples": 18,
        "colours": _COLOURS,
    }
    if checkpoint is None:
        handlers = validation_handlers(output_dir, CLASS_NAMES, **figure)
    else:
        handlers = [
            *evaluation_handlers(network, checkpoint, output_dir, part, CLASS_NAMES, metrics, **figure),
            *_truth_figures(metrics, output_dir, part, model_name),
            *statistics("evaluation"),
        ]
    return StochasticEvaluator(
        device=device,
        val_data_loader=evaluation_loader(dataset, batch_size, num_workers),
        network=network,
        num_samples=num_samples,
        label_weights_key=_WEIGHTS_KEY,
        inferer=inferer,
        chunk_size=chunk_size,
        key_val_metric={
            f"val_{name}": IgniteMetricHandler(
                metric_fn=metric,
                output_transform=from_evaluator(["samples"] if name == "diversity" else ["samples", "label"]),
            )
            for name, metric in metrics.items()
        },
        metric_cmp_fn=lambda current, best: current < best or best != best,
        val_handlers=handlers,
        amp=has_bfloat16(device) if amp is None else amp,
        amp_kwargs={"dtype": torch.bfloat16},
    )


def cityscapes_predictor(
    network: nn.Module,
    dataset_dir: str,
    output_dir: str,
    device: torch.device,
    checkpoint: str,
    num_samples: int = 16,
    spatial_size: Sequence[int] = (256, 512),
    predictions_dir: str | None = None,
    max_scenes: int | None = None,
    inferer: Inferer | None = None,
    amp: bool | None = None,
    chunk_size: int = 1,
) -> StochasticEvaluator:
    """
    Inference on a folder of scenes, whose labels are not looked at: NIfTI of the single answer, the samples (4th axis)
    and the predictive entropy of each, of ``spatial_size``.

    Args:
        network: with ``predictive``.
        dataset_dir: a folder of Cityscapes, with or without labels.
        output_dir: where the files go.
        device: where the network is.
        checkpoint: weights to load.
        num_samples: samples of each scene.
        spatial_size: H and W to which scenes are made smaller.
        predictions_dir: folder of another model's predictions, further channels of the image.
        max_scenes: only the first so many.
        inferer: default: whole scenes.
        amp: bfloat16 autocast; default: on a GPU that has it.
        chunk_size: samples held as logits at a time.
    """
    datalist = cityscapes_datalist(dataset_dir, predictions_dir, require_label=False)
    dataset = CaseDataset(
        datalist[:max_scenes], LoadCityscapesd(spatial_size, with_label=False), cache_rate=0.0, progress=False
    )
    return StochasticEvaluator(
        device=device,
        val_data_loader=evaluation_loader(dataset),
        network=network,
        num_samples=num_samples,
        inferer=inferer,
        chunk_size=chunk_size,
        postprocessing=save_predictions(output_dir, None, spatial_dims=2),
        val_handlers=[WeightsLoader(network, checkpoint)],
        amp=has_bfloat16(device) if amp is None else amp,
        amp_kwargs={"dtype": torch.bfloat16},
    )


def _is_simulated(dataset_dir: str | os.PathLike) -> bool:
    return Path(dataset_dir).expanduser().joinpath(MARK).is_file()


def _metrics() -> dict[str, CumulativeIterationMetric]:
    targets = [target for target, _ in CITYSCAPES_SWITCHES.values()]
    options: dict[str, Any] = {
        "num_classes": _NUM_CLASSES,
        "classes": [*CITYSCAPES_SWITCHES, *targets],
        "empty": "ignore_or_agree",  # an expert may never show any of them
        "ignore_index": CITYSCAPES_VOID,
    }
    return {
        "ged": GeneralizedEnergyDistanceMetric(**options),
        "hm_iou": HungarianMatchedIoUMetric(**options),
        "diversity": SampleDiversityMetric(**options),
        "mode_frequency": ModeFrequencyMetric(2 ** len(targets), **options),
        "flip_ratio": PixelFlipRatioMetric(CITYSCAPES_SWITCHES),
    }


def _truth_figures(metrics: Mapping[str, Any], output_dir: str, part: str, model_name: str) -> list[MetricFigure]:
    """The samples' frequencies beside the known probabilities."""
    names = {label: name for name, label in CITYSCAPES_CLASSES.items()}
    switches = [names[source] for source in CITYSCAPES_SWITCHES]
    probabilities = [probability for _, probability in CITYSCAPES_SWITCHES.values()]
    return [
        MetricFigure(
            os.path.join(output_dir, f"mode_frequency_{part}.png"),
            lambda: plot_mode_frequency({model_name: metrics["mode_frequency"].frequencies()}),
        ),
        MetricFigure(
            os.path.join(output_dir, f"flip_ratio_{part}.png"),
            lambda: plot_flip_ratio({model_name: metrics["flip_ratio"].ratios()}, probabilities, switches),
        ),
    ]
