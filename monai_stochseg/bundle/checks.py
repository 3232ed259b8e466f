# SPDX-License-Identifier: Apache-2.0
"""Whether a method can answer a task, said before anything is trained."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.nn.modules.conv import _ConvNd

from monai_stochseg.tasks import Task


def check_method(task: Task, network: nn.Module, loss: nn.Module) -> None:
    """
    Refuse a network or a loss that a task cannot be trained with.

    Args:
        task: the task.
        network: the network.
        loss: its loss.

    Raises:
        ValueError: when the network has convolutions of another dimension than the task's images, or the task has void
            voxels and the loss does not leave them out.
    """
    convolutions = [module for module in network.modules() if isinstance(module, _ConvNd)]
    dims = {module.weight.ndim - 2 for module in convolutions}
    if dims and dims != {task.spatial_dims}:
        raise ValueError(
            f"task {task.name} has {task.spatial_dims}D images, but {type(network).__name__} has convolutions of "
            f"{' and '.join(f'{dim}D' for dim in sorted(dims))}: build it with spatial_dims={task.spatial_dims}."
        )
    ignored: Any = getattr(loss, "ignore_index", None)
    if task.ignore_index is not None and ignored != task.ignore_index:
        how = (
            f"set its ignore_index to {task.ignore_index}, in a configuration $@task.ignore_index"
            if hasattr(loss, "ignore_index")
            else "it has no ignore_index, so this method cannot be trained on this task"
        )
        raise ValueError(
            f"task {task.name} has void voxels, labelled {task.ignore_index}, that {type(loss).__name__} would take "
            f"for a class: {how}."
        )


def check_raters(task: Task, needed_by: str) -> None:
    """
    Refuse a task with a single rater where a method needs several.

    Args:
        task: the task.
        needed_by: what needs several raters, for the error.

    Raises:
        ValueError: when the task has one rater.
    """
    if task.num_raters < 2:
        raise ValueError(f"{needed_by} needs several raters, but the cases of task {task.name} have 1 each.")
