# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from collections.abc import Sequence

import torch
from monai.utils import CommonKeys

from monai_stochseg.bundle.figure_case import case_of_trained
from monai_stochseg.bundle.options import Options
from monai_stochseg.data import new_file
from monai_stochseg.distributions import LowRankNormal
from monai_stochseg.engines import StochasticEvaluator
from monai_stochseg.tasks import Task
from monai_stochseg.visualize import plot_scaled_samples


def save_scaled_samples(
    evaluator: StochasticEvaluator,
    task: Task,
    options: Options,
    part: str,
    checkpoint: str | None,
    scales: Sequence[float] = (-3, -2, -1, 0, 1, 2, 3),
    num_ranks: int = 0,
    case: int = 0,
) -> None:
    """
    Save ``scaled_<part>.png`` in the output folder: one case's sample whose deviation from the mean is scaled, see
    :py:func:`monai_stochseg.visualize.plot_scaled_samples`.

    Args:
        evaluator: its network, a Stochastic Segmentation Network, its inferer and its cases are taken.
        task: what is asked.
        options: where and how to run.
        part: whose cases the evaluator has; names the file.
        checkpoint: the weights.
        scales: a column each.
        num_ranks: columns of the factor that have a row each.
        case: index of the case.

    Raises:
        TypeError: when the network gives another distribution.
        ValueError: without a checkpoint, or when there is no such case.
    """
    item = case_of_trained(evaluator, task, checkpoint, case)
    image = item[CommonKeys.IMAGE]
    keys = {} if task.mask_key is None else {"mask": item[task.mask_key][None].to(options.device)}
    with torch.no_grad(), evaluator.mode(evaluator.network):
        distribution = evaluator.inferer(image[None].to(options.device), evaluator.network, **keys)
    if not isinstance(distribution, LowRankNormal):
        raise TypeError(f"network must give a LowRankNormal, got a {type(distribution).__name__}.")
    figure = plot_scaled_samples(
        image,
        distribution,
        scales,
        task.class_names,
        num_ranks,
        indexing=task.figure.get("indexing", "xy"),
        seed=evaluator.seed,
        title=task.figure.get("title"),
    )
    with new_file(os.path.join(options.output_dir, f"scaled_{part}.png")) as temporary:
        figure.savefig(temporary, dpi=130)
