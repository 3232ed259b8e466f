# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from monai.inferers import SimpleInferer
from monai.utils import CommonKeys
from torch import nn

from monai_stochseg.bundle.options import Options
from monai_stochseg.bundle.runtime import process_rank
from monai_stochseg.data import new_file
from monai_stochseg.distributions import check_weights, full_precision
from monai_stochseg.distributions.base import plain
from monai_stochseg.handlers import load_weights
from monai_stochseg.handlers.load_weights import check_signature, read_checkpoint
from monai_stochseg.inferers import PredictiveInferer
from monai_stochseg.losses import Temperature, fit_temperature
from monai_stochseg.networks import gives_parameters, is_predictive
from monai_stochseg.tasks import Task

_MAX_VOXELS = 1_000_000


@torch.no_grad()
def save_temperature(
    task: Task,
    network: nn.Module,
    options: Options,
    checkpoint: str | None,
    part: str = "validation",
    judged: str = "test",
    vector: bool = False,
    transforms: Sequence[Callable] = (),
) -> dict[str, Any]:
    """
    Calibrate the single answer of a trained network on one part of the cases, and say what it brings on another:
    ``temperature.json`` in the output folder has ``scale`` and ``bias`` for
    :py:class:`monai_stochseg.networks.nets.TemperatureScaled`, and the expected calibration error before and after.

    Args:
        task: what is asked.
        network: gives logits, or a distribution, of which the mode is taken.
        options: where and how to run.
        checkpoint: the weights.
        part: whose cases are fitted.
        judged: whose cases are judged.
        vector: scale and bias of each class instead of one temperature.
        transforms: of ``image`` and ``label``, after the task's own, such as a crop.

    Returns:
        what the file holds.

    Raises:
        ValueError: without a checkpoint, or when a part has no cases.
    """
    if checkpoint is None:
        raise ValueError("checkpoint must be given: put temperature.json behind train.json.")
    check_signature(read_checkpoint(checkpoint).get("signature"), task.signature, checkpoint)
    load_weights(network, checkpoint)
    network.eval()
    numbers = {name: len(task.cases(name)) for name in (part, judged)}
    for name, number in numbers.items():
        if not number:
            raise ValueError(f"part {name!r} has no cases: give another by `part` or `judged`.")
    most = _MAX_VOXELS // numbers[part] + 1
    logits, labels, weights = _voxels(task, network, options, part, transforms, most)
    found = fit_temperature(logits, labels, weights, vector, task.ignore_index)
    before, after = _calibration_errors(task, network, options, judged, transforms, found)
    result: dict[str, Any] = {
        "scale": found.scale.tolist(),
        "bias": found.bias.tolist(),
        "fitted_on": part,
        "judged_on": judged,
        "ece_before": before,
        "ece_after": after,
    }
    if process_rank() > 0:  # all have done the same
        return result
    with new_file(os.path.join(options.output_dir, "temperature.json")) as temporary:
        temporary.write_text(json.dumps(result, indent=4) + "\n", encoding="utf-8")
    print(f"ece of the single answer on the part {judged!r}: {before:.4f}, calibrated {after:.4f}")
    return result


def _answers(
    task: Task, network: nn.Module, options: Options, part: str, transforms: Sequence[Callable]
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Logits ``[1, C, *S]`` of the single answer, raters ``[1, R, *S]`` and their weights of each case."""
    sampled = is_predictive(network) or gives_parameters(network)
    inferer = PredictiveInferer(task.inferer()) if sampled else task.inferer() or SimpleInferer()
    dataset: Any = task.dataset(part, task.evaluation(transforms), cache_rate=0.0)
    for i in range(len(dataset)):
        case: Mapping[str, Any] = dataset[i]
        output: Any = inferer(case[CommonKeys.IMAGE][None].to(options.device), network)
        logits = output.mode_logits() if sampled else output
        label = plain(case[CommonKeys.LABEL])[None].to(options.device)
        given = case.get("rater_weights")
        weights = check_weights(None if given is None else torch.as_tensor(given)[None].to(options.device), label)
        yield full_precision(plain(logits)), label, weights


def _voxels(
    task: Task, network: nn.Module, options: Options, part: str, transforms: Sequence[Callable], most: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """
    Some voxels of all cases as items of one voxel: logits ``[V, C, 1]``, raters ``[V, R, 1]`` and weights ``[V, R]``.
    """
    logits, labels, weights = [], [], []
    for answer, label, own in _answers(task, network, options, part, transforms):
        step = -(-answer[0, 0].numel() // most)
        logits.append(answer[0].flatten(1)[:, ::step].T[..., None])
        labels.append(label[0].flatten(1)[:, ::step].T[..., None])
        weights.append(own.expand(len(labels[-1]), -1))
    return torch.cat(logits), torch.cat(labels), torch.cat(weights)


def _calibration_errors(
    task: Task, network: nn.Module, options: Options, part: str, transforms: Sequence[Callable], found: Temperature
) -> tuple[float, float]:
    """Of the network's single answers as they are, and scaled."""
    metrics = [task.metric("ece") for _ in range(2)]
    for logits, label, weights in _answers(task, network, options, part, transforms):
        for (metric, transform), own in zip(metrics, (logits, found.apply(logits)), strict=True):
            output = {"probabilities": own.softmax(1)[0], CommonKeys.LABEL: label[0], "rater_weights": weights[0]}
            metric(*transform([output]))
    before, after = (float(torch.as_tensor(metric.aggregate())) for metric, _ in metrics)
    return before, after
