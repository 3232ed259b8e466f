# SPDX-License-Identifier: Apache-2.0
"""The floor of every method: an evaluator that draws from the readers, or from the known truth, and from no network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from monai.bundle import ConfigParser

from monai_stochseg.bundle.loaders import evaluation_loader
from monai_stochseg.engines import StochasticEvaluator
from monai_stochseg.inferers import RaterInferer
from monai_stochseg.tasks import Task

NUM_DRAWS = 400  # so many that a hundred of them, drawn with replacement, are hardly ever the same one twice


def resampling(evaluator: StochasticEvaluator, parser: ConfigParser) -> StochasticEvaluator:
    """
    An evaluation's evaluator with the raters in the place of its network.

    Where the task can draw from the truth that its data were simulated with, samples are such draws; else the raters of
    the case are drawn with replacement, each in proportion to its weight.

    Args:
        evaluator: of the evaluation.
        parser: of its configuration.

    Returns:
        the evaluator, changed in place.
    """
    task: Task = parser.get_parsed_content("task")
    raters = task.num_raters
    drawn = task.with_truth(NUM_DRAWS)
    if drawn is not None:
        transforms = parser.get_parsed_content("evaluation_transforms")
        dataset = drawn.dataset("test", drawn.evaluation(transforms), cache_rate=0.0)
        evaluator.data_loader = evaluation_loader(dataset)
    evaluator.inferer = RaterInferer(task.num_classes, task.ignore_index)
    evaluator.prepare_batch = lambda batch, device, *args, **kwargs: _prepare(batch, device, raters)
    return evaluator


def _prepare(batch: Mapping[str, Any], device: Any, raters: int) -> tuple:
    """Image, the label of the raters, and for the inferer the truth's draws behind them, or the raters again."""
    image, label = batch["image"].to(device), batch["label"].to(device)
    own, drawn = label[:, :raters], label[:, raters:]
    weights: torch.Tensor | None = batch.get("rater_weights")
    if drawn.shape[1]:
        return image, own, (drawn,), {}
    return image, own, (own,), {"rater_weights": weights}
