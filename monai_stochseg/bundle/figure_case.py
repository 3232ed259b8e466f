# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

from monai.engines import Evaluator

from monai_stochseg.handlers import WeightsLoader
from monai_stochseg.tasks import Task


def case_of_trained(evaluator: Evaluator, task: Task, checkpoint: str | None, case: int) -> dict[str, Any]:
    """
    Load a checkpoint into an evaluator's network, and one of its cases, for a figure.

    Args:
        evaluator: has ``network``.
        task: what is asked; its signature must be the checkpoint's.
        checkpoint: the weights.
        case: index of the case.

    Raises:
        ValueError: without a checkpoint, or when there is no such case.
    """
    if checkpoint is None:
        raise ValueError("checkpoint must be given: put evaluate.json behind train.json.")
    data: Any = evaluator.data_loader.dataset
    if not 0 <= case < len(data):
        raise ValueError(f"case must lie in [0, {len(data) - 1}], the cases of the part, got {case}.")
    WeightsLoader(evaluator.network, checkpoint, signature=task.signature)(evaluator)
    return data[case]
