# SPDX-License-Identifier: Apache-2.0
"""Trainer and evaluators of the LIDC bundles, which differ in network, loss and handlers alone."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from ignite.engine import Engine
from monai.engines import SupervisedTrainer
from monai.inferers import Inferer
from monai.transforms import Compose, RandAxisFlipd, RandRotate90d
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from monai_stochseg.bundle.evaluation import (
    evaluation_handlers,
    sample_metrics,
    validation_handlers,
)
from monai_stochseg.bundle.loaders import evaluation_loader
from monai_stochseg.bundle.prediction import save_predictions
from monai_stochseg.bundle.runtime import has_bfloat16
from monai_stochseg.bundle.training import make_trainer
from monai_stochseg.data import (
    LIDC_MANIFESTS,
    SPLITS,
    CaseDataset,
    CaseError,
    crops_datalist,
    load_manifest,
    split_by_manifest,
    split_cases,
)
from monai_stochseg.data.lidc import read_parameters
from monai_stochseg.engines import StochasticEvaluator
from monai_stochseg.handlers import WeightsLoader
from monai_stochseg.transforms import LoadCropd
from monai_stochseg.transforms.load_crop import LUNG_WINDOW

CLASS_NAMES = ("background", "nodule")
METRICS = ("ged", "diversity", "hm_iou", "dice")


def lidc_dataset(
    dataset_dir: str | os.PathLike,
    manifest: str | None,
    part: str,
    transforms: Sequence[Callable] = (),
    num_workers: int = 0,
    cache_rate: float = 1.0,
    spatial_dims: int | None = None,
    window: tuple[float, float] = LUNG_WINDOW,
) -> CaseDataset:
    """
    One part of a folder of LIDC's crops, with ``image`` ``[1, *S]`` and ``label`` ``[4, *S]``.

    Args:
        dataset_dir: a folder of crops, simulated or prepared, see docs/lidc.md.
        manifest: name or file of a split by patient, see :py:func:`monai_stochseg.data.load_manifest`; None for the
            split that came with the data.
        part: ``train``, ``validation`` or ``test``.
        transforms: further transforms, after the loading.
        num_workers: processes that fill the cache.
        cache_rate: share of the crops kept in memory.
        spatial_dims: refuse crops of another dimension; default: take either.
        window: lowest and highest value in HU, see :py:class:`monai_stochseg.transforms.LoadCropd`.

    Raises:
        CaseError: when the folder or the manifest is not usable, the crops have another dimension, there is neither a
            manifest nor a split that came with the data, or the part is empty.
    """
    cases = lidc_part(dataset_dir, manifest, part, spatial_dims)
    transform = Compose([LoadCropd(window), *transforms])
    return CaseDataset(cases, transform, num_workers=num_workers, cache_rate=cache_rate, progress=False)


def lidc_part(
    dataset_dir: str | os.PathLike, manifest: str | None, part: str, spatial_dims: int | None = None
) -> list[dict[str, Any]]:
    """The datalist of one part of a folder of LIDC's crops; arguments and errors are :py:func:`lidc_dataset`'s."""
    if part not in SPLITS:
        raise CaseError(f"part must be one of {SPLITS}, got {part!r}.")
    datalist = lidc_cases(dataset_dir, spatial_dims)
    if manifest is not None:
        split = split_by_manifest(datalist, load_manifest(manifest))
    elif any("split" in case for case in datalist):
        split = split_cases(datalist)
    else:
        raise CaseError(f"{dataset_dir} came without a split: give a manifest, one of {LIDC_MANIFESTS} or a file.")
    if not split[part]:
        raise CaseError(f"part {part!r} is empty: {manifest or 'the split'} has none of its patients in {dataset_dir}.")
    return split[part]


def lidc_cases(dataset_dir: str | os.PathLike, spatial_dims: int | None = None) -> list[dict[str, Any]]:
    """
    The datalist of a whole folder of LIDC's crops.

    Args:
        dataset_dir: a folder of crops.
        spatial_dims: refuse crops of another dimension; default: take either.

    Raises:
        CaseError: when the folder holds no crops, or some of another dimension.
    """
    datalist = crops_datalist(dataset_dir)
    found = len(datalist[0]["spacing"])
    if spatial_dims is not None and found != spatial_dims:
        raise CaseError(f"{dataset_dir} holds {found}D crops, but spatial_dims is {spatial_dims}.")
    return datalist


def _is_simulated(dataset_dir: str | os.PathLike) -> bool:
    return bool((read_parameters(dataset_dir) or {}).get("simulated", False))


def flip_and_rotate() -> list[Callable]:
    """The default augmentation, in 2D and in 3D: flips, and quarter turns in the axial plane."""
    keys = ["image", "label"]
    return [RandAxisFlipd(keys, prob=0.5), RandRotate90d(keys, prob=0.75)]


def lidc_trainer(
    network: nn.Module,
    loss: nn.Module,
    optimizer: Optimizer,
    lr_scheduler: LRScheduler,
    evaluator: Engine,
    dataset_dir: str,
    manifest: str | None,
    parameters: Mapping[str, Any],
    augmentation: Sequence[Callable] | None = None,
    num_workers: int = 0,
    cache_rate: float = 1.0,
    spatial_dims: int | None = None,
    window: tuple[float, float] = LUNG_WINDOW,
    make: Callable[..., SupervisedTrainer] = make_trainer,
    **kwargs: Any,
) -> SupervisedTrainer:
    """
    The trainer on LIDC's crops.

    Args:
        network: on its device, and wrapped where training is distributed.
        loss: takes the network's output and the readers' labels ``[B, 4, *S]``.
        optimizer: of the network.
        lr_scheduler: stepped each epoch.
        evaluator: validates before training and every ``val_interval`` epochs.
        dataset_dir: a folder of crops, see :py:func:`lidc_dataset`.
        manifest: the split; its id is logged with the run's parameters, and so is whether the CT is simulated.
        parameters: what the run was made with, for MLflow.
        augmentation: random transforms of ``image`` and ``label``; default: :py:func:`flip_and_rotate`.
        num_workers: processes that load.
        cache_rate: share of the crops kept in memory.
        spatial_dims: refuse crops of another dimension.
        window: lowest and highest value in HU, see :py:class:`monai_stochseg.transforms.LoadCropd`.
        make: what makes the trainer: :py:func:`monai_stochseg.bundle.make_trainer`, or one that takes its arguments.
        kwargs: further arguments of ``make``.
    """
    transforms = flip_and_rotate() if augmentation is None else augmentation
    split = manifest and load_manifest(manifest).id
    return make(
        network,
        loss,
        optimizer,
        lr_scheduler,
        evaluator,
        lidc_dataset(dataset_dir, manifest, "train", transforms, num_workers, cache_rate, spatial_dims, window),
        parameters={
            **parameters,
            "manifest": split,
            "dataset_dir": dataset_dir,
            "simulated": _is_simulated(dataset_dir),
        },
        num_workers=num_workers,
        **kwargs,
    )


def lidc_evaluator(
    network: nn.Module,
    dataset_dir: str,
    manifest: str | None,
    output_dir: str,
    device: torch.device,
    part: str = "validation",
    checkpoint: str | None = None,
    num_samples: int = 16,
    batch_size: int = 16,
    num_workers: int = 0,
    metrics: Sequence[str] = METRICS,
    first: Mapping[str, int] | None = None,
    inferer: Inferer | None = None,
    amp: bool | None = None,
    transforms: Sequence[Callable] = (),
    spatial_dims: int | None = None,
    window: tuple[float, float] = LUNG_WINDOW,
    chunk_size: int = 1,
    figure: Mapping[str, Any] | None = None,
) -> StochasticEvaluator:
    """
    The evaluator of a part of LIDC's crops: energy distance (the key metric) and others against the four readers.

    Args:
        network: with ``predictive``.
        dataset_dir: a folder of crops, see :py:func:`lidc_dataset`.
        manifest: the split.
        output_dir: folder of the figure, which says where the CT is simulated, and of the table.
        device: where the network is.
        part: ``train``, ``validation`` or ``test``.
        checkpoint: weights to load; a table ``evaluation_<part>.csv`` is written then. Default: the network as it is,
            for validation in training.
        num_samples: samples of each crop.
        batch_size: crops at a time.
        num_workers: processes that load.
        metrics: names, see :py:func:`monai_stochseg.bundle.sample_metrics`; the first is the key metric, the less the
            better.
        first: metrics that judge only so many of the samples, by name.
        inferer: default: whole crops, by :py:class:`monai_stochseg.inferers.PredictiveInferer`.
        amp: bfloat16 autocast; default: on a GPU that has it.
        transforms: of ``image`` and ``label``, after the loading, such as a crop.
        spatial_dims: refuse crops of another dimension.
        window: lowest and highest value in HU, see :py:class:`monai_stochseg.transforms.LoadCropd`.
        chunk_size: samples held as logits at a time.
        figure: further arguments of :py:class:`monai_stochseg.handlers.SampleFigure`.
    """
    dataset = lidc_dataset(
        dataset_dir, manifest, part, transforms, num_workers, spatial_dims=spatial_dims, window=window
    )
    chosen = sample_metrics(len(CLASS_NAMES), metrics, first)
    title = "simulated CT" if _is_simulated(dataset_dir) else None
    options: dict[str, Any] = {"indexing": "ij", "title": title, **(figure or {})}
    if checkpoint is None:
        handlers = validation_handlers(output_dir, CLASS_NAMES, **options)
    else:
        table = {name: handler.metric_fn for name, handler in chosen.items()}
        handlers = evaluation_handlers(network, checkpoint, output_dir, part, CLASS_NAMES, table, **options)
    return StochasticEvaluator(
        device=device,
        val_data_loader=evaluation_loader(dataset, batch_size, num_workers),
        network=network,
        num_samples=num_samples,
        inferer=inferer,
        chunk_size=chunk_size,
        key_val_metric={f"val_{name}": handler for name, handler in chosen.items()},
        metric_cmp_fn=lambda current, best: current < best or best != best,
        val_handlers=handlers,
        amp=has_bfloat16(device) if amp is None else amp,
        amp_kwargs={"dtype": torch.bfloat16},
    )


def lidc_predictor(
    network: nn.Module,
    dataset_dir: str,
    output_dir: str,
    device: torch.device,
    checkpoint: str,
    num_samples: int = 16,
    max_crops: int | None = None,
    inferer: Inferer | None = None,
    amp: bool | None = None,
    spatial_dims: int | None = None,
    window: tuple[float, float] = LUNG_WINDOW,
    chunk_size: int = 1,
    answer_entropy: bool = False,
) -> StochasticEvaluator:
    """
    Inference on a folder of crops, whose readings are not looked at: NIfTI of the single answer, the samples (4th axis)
    and the predictive entropy of each.

    Args:
        network: with ``predictive``.
        dataset_dir: a folder of crops, see docs/lidc.md.
        output_dir: where the files go.
        device: where the network is.
        checkpoint: weights to load.
        num_samples: samples of each crop.
        max_crops: only the first so many.
        inferer: default: whole crops.
        amp: bfloat16 autocast; default: on a GPU that has it.
        spatial_dims: refuse crops of another dimension.
        window: lowest and highest value in HU, see :py:class:`monai_stochseg.transforms.LoadCropd`.
        chunk_size: samples held as logits at a time.
        answer_entropy: whether to save the entropy of the single answer too.
    """
    datalist = lidc_cases(dataset_dir, spatial_dims)
    transform = Compose([LoadCropd(window, with_label=False)])
    dataset = CaseDataset(datalist[:max_crops], transform, cache_rate=0.0, progress=False)
    return StochasticEvaluator(
        device=device,
        val_data_loader=evaluation_loader(dataset),
        network=network,
        num_samples=num_samples,
        inferer=inferer,
        chunk_size=chunk_size,
        postprocessing=save_predictions(
            output_dir, transform, spatial_dims=len(datalist[0]["spacing"]), answer_entropy=answer_entropy
        ),
        val_handlers=[WeightsLoader(network, checkpoint)],
        amp=has_bfloat16(device) if amp is None else amp,
        amp_kwargs={"dtype": torch.bfloat16},
    )
