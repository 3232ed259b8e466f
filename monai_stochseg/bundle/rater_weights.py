# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from monai.engines import SupervisedTrainer


def trainer_with_rater_weights(
    key: str, *, loss_function: Callable, prepare_batch: Callable, **kwargs: Any
) -> SupervisedTrainer:
    """
    MONAI's trainer with a loss that takes the raters' weights as its third argument, after prediction and label.

    Args:
        key: of the weights ``[B, R]`` in the batch.
        loss_function: the loss.
        prepare_batch: as MONAI's trainer takes it.
        kwargs: further arguments of MONAI's SupervisedTrainer.
    """
    # MONAI's trainer passes the loss one target: until then label and weights are a pair.
    return SupervisedTrainer(
        loss_function=partial(_apply, loss_function), prepare_batch=partial(_pair, prepare_batch, key), **kwargs
    )


def _pair(prepare_batch: Callable, key: str, batch: Mapping[str, Any], device: Any, *args: Any, **kwargs: Any) -> tuple:
    image, label, *rest = prepare_batch(batch, device, *args, **kwargs)
    return image, (label, batch[key].to(device)), *rest


def _apply(loss_function: Callable, pred: Any, target: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    value: torch.Tensor = loss_function(pred, *target)
    return value
