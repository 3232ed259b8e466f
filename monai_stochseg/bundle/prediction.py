# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from collections.abc import Callable

from monai.data import Dataset
from monai.inferers import Inferer, SimpleInferer
from monai.transforms import Activationsd, Compose, CopyItemsd
from torch import nn

from monai_stochseg.bundle.loaders import evaluation_loader
from monai_stochseg.bundle.options import Options
from monai_stochseg.bundle.prediction_recorder import PredictionRecorder
from monai_stochseg.engines import AnswerEvaluator, StochasticEvaluator
from monai_stochseg.handlers import VolumeTable, WeightsLoader
from monai_stochseg.inferers import PredictiveInferer
from monai_stochseg.tasks import Task


def make_predictor(
    task: Task,
    network: nn.Module,
    options: Options,
    dataset: Dataset,
    checkpoint: str,
    postprocessing: Callable,
    inferer: Inferer | None = None,
    num_samples: int = 8,
    volumes: str | os.PathLike | None = None,
    recorder: PredictionRecorder | None = None,
    expected_entropy: bool = False,
) -> StochasticEvaluator:
    """
    Inference of sampled answers on any task: ``postprocessing`` saves the single answer, the samples and the predictive
    entropy of each case.

    Args:
        task: what is asked.
        network: with ``predictive``.
        options: where and how to run.
        dataset: cases with ``image``.
        checkpoint: weights to load.
        postprocessing: such as :py:func:`save_predictions`.
        inferer: maps image and network to a predictive distribution. Default:
            :py:class:`monai_stochseg.inferers.PredictiveInferer` with the task's windows.
        num_samples: samples of each case.
        volumes: table of the structures' volumes, see :py:class:`monai_stochseg.handlers.VolumeTable`. Default: none.
        recorder: writes image, label and a record beside the predictions. Default: none.
        expected_entropy: whether the samples' entropies are kept, for the mutual information.
    """
    return StochasticEvaluator(
        val_data_loader=evaluation_loader(dataset),
        network=getattr(network, "module", network),
        num_samples=num_samples,
        inferer=PredictiveInferer(task.inferer()) if inferer is None else inferer,
        mask_key=task.mask_key,
        expected_entropy=expected_entropy,
        postprocessing=postprocessing,
        val_handlers=_handlers(task, network, checkpoint, volumes, recorder),
        **options.engine,
    )


def make_answer_predictor(
    task: Task,
    network: nn.Module,
    options: Options,
    dataset: Dataset,
    checkpoint: str,
    postprocessing: Callable,
    inferer: Inferer | None = None,
    volumes: str | os.PathLike | None = None,
    recorder: PredictionRecorder | None = None,
) -> AnswerEvaluator:
    """
    Inference of single answers, logits ``[B, C, *S]``: ``postprocessing`` saves the label map and the predictive
    entropy of each case.

    Args:
        task: what is asked.
        network: gives logits.
        options: where and how to run.
        dataset: cases with ``image``.
        checkpoint: weights to load.
        postprocessing: such as :py:func:`save_predictions`.
        inferer: how windows are taken. Default: the task's.
        volumes: see :py:func:`make_predictor`.
        recorder: see :py:func:`make_predictor`.
    """
    softmax = [Activationsd(keys="pred", softmax=True), CopyItemsd(keys="pred", names="probabilities")]
    return AnswerEvaluator(
        val_data_loader=evaluation_loader(dataset),
        network=getattr(network, "module", network),
        inferer=inferer or task.inferer() or SimpleInferer(),
        postprocessing=Compose([*softmax, postprocessing]),
        val_handlers=_handlers(task, network, checkpoint, volumes, recorder),
        **options.engine,
    )


def _handlers(
    task: Task,
    network: nn.Module,
    checkpoint: str,
    volumes: str | os.PathLike | None,
    recorder: PredictionRecorder | None,
) -> list:
    table = [] if volumes is None else [VolumeTable(volumes, task.regions, task.spatial_dims)]
    record = [] if recorder is None else [recorder]
    return [WeightsLoader(network, checkpoint, signature=task.signature), *table, *record]
