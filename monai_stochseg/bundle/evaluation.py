# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from monai.data import DataLoader
from monai.engines.utils import default_prepare_batch
from monai.inferers import Inferer, SimpleInferer
from monai.transforms import Activationsd, AsDiscreted, Compose, CopyItemsd
from monai.utils import MetricReduction
from torch import nn

from monai_stochseg.bundle.loaders import evaluation_loader
from monai_stochseg.bundle.options import Options
from monai_stochseg.bundle.training import statistics
from monai_stochseg.distributions import with_weights
from monai_stochseg.engines import AnswerEvaluator, StochasticEvaluator
from monai_stochseg.handlers import (
    CaseTable,
    MetricHandler,
    ReliabilityFigure,
    SampleFigure,
    SharedBuffers,
    WeightsLoader,
)
from monai_stochseg.inferers import PredictiveInferer
from monai_stochseg.metrics import EnergyDistanceCurveMetric
from monai_stochseg.tasks import Task
from monai_stochseg.tasks.ambiguity import AMBIGUITY_FITTED, fitted_ambiguity
from monai_stochseg.tasks.sample_metrics import TaskMetric, first_samples, uncertainty_draws


def is_lower(current: float, best: float) -> bool:
    """Whether a metric of which less is better improved; anything is better than an undefined (NaN) best."""
    return current < best or best != best


def make_evaluator(
    task: Task,
    network: nn.Module,
    options: Options,
    part: str = "validation",
    transforms: Sequence[Callable] = (),
    checkpoint: str | None = None,
    num_samples: int = 16,
    metrics: Sequence[str] | None = None,
    first: Mapping[str, int] | None = None,
    inferer: Inferer | None = None,
    figure: Mapping[str, Any] | None = None,
    model_name: str = "model",
) -> StochasticEvaluator:
    """
    The evaluator of sampled answers on any task, by the task's metrics; the first is the key metric, and less is
    better.

    Args:
        task: what is asked.
        network: with ``predictive``.
        options: where and how to run.
        part: whose cases are judged, see :py:meth:`monai_stochseg.tasks.Task.cases`.
        transforms: of ``image`` and ``label``, after the task's own, such as a crop.
        checkpoint: weights to load; the table ``evaluation_<part>.csv`` and the task's figures are written then.
            Default: the network as it is, for validation in training.
        num_samples: samples of each case.
        metrics: names, see :py:meth:`monai_stochseg.tasks.Task.metric`, and ``ambiguity_fitted``: ``ambiguity`` with
            the threshold that an evaluation on the validation part left in the output folder. Default: the task's.
        first: metrics that judge only the first samples, by name.
        inferer: how windows are taken. Default: the task's, see :py:meth:`monai_stochseg.tasks.Task.inferer`.
        figure: further arguments of :py:class:`monai_stochseg.handlers.SampleFigure`.
        model_name: in the figures.

    Raises:
        ValueError: for a metric of another name, or a first one that is not one number.
        CaseError: when ``ambiguity_fitted`` finds no threshold.
    """
    names = metrics or (task.metric_names if checkpoint is None else task.evaluation_metric_names)
    chosen = {name: _metric(task, name, options) for name in names}
    for name, number in (first or {}).items():
        if name in chosen:
            chosen[name] = first_samples(chosen[name], number)
    drawing = {**task.figure, **(figure or {})}
    if checkpoint is None:
        path = os.path.join(options.output_dir, "samples.png")
        handlers = [SharedBuffers(), SampleFigure(path, task.class_names, **drawing), *statistics("validation")]
    else:
        path = os.path.join(options.output_dir, f"samples_{part}.png")
        handlers = [
            WeightsLoader(network, checkpoint, signature=task.signature),
            CaseTable(_table(options, part), {k: m for k, (m, _) in chosen.items()}, standard_error=True),
            SampleFigure(path, task.class_names, **drawing, epoch=False),
            *task.evaluation_figures(chosen, options.output_dir, part, model_name),
            *statistics("evaluation"),
        ]
    return StochasticEvaluator(
        val_data_loader=_loader(task, options, part, transforms),
        network=getattr(network, "module", network),
        num_samples=num_samples,
        inferer=PredictiveInferer(task.inferer() if inferer is None else inferer),
        mask_key=task.mask_key,
        uncertainty_draws=uncertainty_draws(names),
        key_val_metric=_handlers(chosen),
        metric_cmp_fn=is_lower,
        val_handlers=handlers,
        **options.engine,
    )


def make_answer_evaluator(
    task: Task,
    network: nn.Module,
    options: Options,
    part: str = "validation",
    transforms: Sequence[Callable] = (),
    checkpoint: str | None = None,
    inferer: Inferer | None = None,
    model_name: str = "model",
) -> AnswerEvaluator:
    """
    The evaluator of single answers, logits ``[B, C, *S]``, on any task: Dice of its structures (the key metric is
    their mean) and calibration; with a checkpoint surface Dice and the calibration of each class too.

    Args:
        task: what is asked.
        network: gives logits.
        options: where and how to run.
        part: whose cases are judged, see :py:meth:`monai_stochseg.tasks.Task.cases`.
        transforms: of ``image`` and ``label``, after the task's own.
        checkpoint: weights to load; the table ``evaluation_<part>.csv`` and the figure ``reliability_<part>.png`` are
            written then. Default: the network as it is.
        inferer: how windows are taken. Default: the task's.
        model_name: in the figure.
    """
    chosen = task.answer_metrics(full=checkpoint is not None)
    handlers: list[Any] = [SharedBuffers(), *statistics("validation")]
    if checkpoint is not None:
        # where there are several raters, Dice stands in the table against each
        left_out = {"reliability", *(["dice"] if task.num_raters > 1 else [])}
        reliability: Any = chosen["reliability"].metric
        handlers = [
            WeightsLoader(network, checkpoint, signature=task.signature),
            CaseTable(_table(options, part), {k: m for k, (m, _) in chosen.items() if k not in left_out}, std=True),
            ReliabilityFigure(os.path.join(options.output_dir, f"reliability_{part}.png"), reliability, model_name),
        ]
    return AnswerEvaluator(
        val_data_loader=_loader(task, options, part, transforms),
        network=getattr(network, "module", network),
        prepare_batch=_with_rater_weights,
        inferer=inferer or task.inferer() or SimpleInferer(),
        postprocessing=Compose(
            [
                Activationsd(keys="pred", softmax=True),
                CopyItemsd(keys="pred", names="probabilities"),
                AsDiscreted(keys="pred", argmax=True),
            ]
        ),
        key_val_metric=_handlers(chosen),
        val_handlers=handlers,
        **options.engine,
    )


def _metric(task: Task, name: str, options: Options) -> TaskMetric:
    if name == AMBIGUITY_FITTED:
        return fitted_ambiguity(options.output_dir, task.metric("ambiguity"))
    return task.metric(name)


def _with_rater_weights(batch: Mapping[str, Any], device: Any, *args: Any, **kwargs: Any) -> tuple:
    """Image and label, which carries the raters' weights where the batch has them."""
    image, label = default_prepare_batch(batch, device, *args, **kwargs)
    return image, with_weights(label, batch.get("rater_weights"))


def _loader(task: Task, options: Options, part: str, transforms: Sequence[Callable]) -> DataLoader:
    dataset = task.dataset(part, task.evaluation(transforms), options.num_workers, options.cache_rate)
    return evaluation_loader(dataset, task.evaluation_batch_size, options.num_workers)


class _LastColumn(MetricHandler):
    """The value of the last column of a metric that has several."""

    def compute(self) -> Any:
        return super().compute()[-1]


def _handlers(metrics: Mapping[str, TaskMetric]) -> dict[str, MetricHandler]:
    """The first is the key metric, one number: of the energy distance's curve that of the most samples."""
    handlers: dict[str, MetricHandler] = {}
    for name, (metric, output_transform) in metrics.items():
        reduction = getattr(metric, "reduction", None)
        kind = MetricHandler
        if not handlers and isinstance(metric, EnergyDistanceCurveMetric):
            kind = _LastColumn
        elif not handlers and reduction == MetricReduction.MEAN_BATCH:
            raise ValueError(f"metrics: {name} has several columns and cannot be the first, which is one number.")
        handlers[f"val_{name}"] = kind(metric_fn=metric, output_transform=output_transform)
    return handlers


def _table(options: Options, part: str) -> str:
    return os.path.join(options.output_dir, f"evaluation_{part}.csv")
