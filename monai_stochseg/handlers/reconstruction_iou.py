# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from monai.engines.utils import IterationEvents
from monai.utils import CommonKeys

from monai_stochseg.distributions import LatentOutput
from monai_stochseg.distributions.base import plain

__all__ = ["ReconstructionIoU"]


@torch.no_grad()
def compute_reconstruction_iou(
    logits: torch.Tensor, label: torch.Tensor, ignore_index: int | None = None
) -> torch.Tensor:
    """
    Mean IoU, over the classes but the background, of what a posterior decodes to and the label that it has seen
    (Kohl et al. 2019, https://arxiv.org/abs/1905.13077). A class that neither has is left out.

    Args:
        logits: ``[B, C, *S]``.
        label: integer labels ``[B, *S]``.
        ignore_index: label of void voxels.

    Returns:
        ``[B]``; NaN where neither has any class.

    Example::

        >>> logits = torch.tensor([[[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]]])  # the map 0 1 1
        >>> compute_reconstruction_iou(logits, torch.tensor([[0, 1, 0]]))
        tensor([0.5000])
    """
    valid = torch.ones_like(label, dtype=torch.bool) if ignore_index is None else label != ignore_index
    answer = logits.argmax(1)
    values = []
    for index in range(1, logits.shape[1]):
        one, two = ((part == index) & valid for part in (answer, label))
        both, either = ((one & two).flatten(1).sum(1), (one | two).flatten(1).sum(1))
        values.append(torch.where(either > 0, both / either, torch.nan))
    return torch.stack(values, dim=1).nanmean(1)


class ReconstructionIoU:
    """
    Handler of a trainer of a network with latents: how well these can tell a mask at all.

    At the end of each epoch ``engine.state.metrics["reconstruction_iou"]`` is the mean over the epoch's images, of all
    processes, of :py:func:`compute_reconstruction_iou`: of draws from the posterior, in training. Put this handler
    before those that log the metrics.

    Args:
        ignore_index: label of void voxels.

    Raises:
        TypeError: in training, when the network's output is no ``LatentOutput``.
    """

    def __init__(self, ignore_index: int | None = None) -> None:
        self.ignore_index = ignore_index
        self._total: torch.Tensor | None = None

    def attach(self, engine: Engine) -> None:
        """
        Args:
            engine: a trainer of MONAI.
        """
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(IterationEvents.FORWARD_COMPLETED, self._update)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._complete_epoch)

    def state_dict(self) -> dict[str, Any]:
        """What :py:class:`TrainingCheckpoint` keeps: the sum over this epoch's images, and their number."""
        return {"total": self._total}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore both."""
        self._total = state["total"]

    def _start(self, engine: Engine) -> None:
        if engine.state.iteration == 0:
            self._total = None

    def _update(self, engine: Engine) -> None:
        output = engine.state.output[CommonKeys.PRED]
        if not isinstance(output, LatentOutput):
            raise TypeError(
                f"the network's output must be LatentOutput, as that of ProbabilisticUNet, got {type(output).__name__}."
            )
        label = engine.state.output[CommonKeys.LABEL]
        label = plain(label[0] if isinstance(label, tuple) else label)  # the trainer pairs it with weights
        seen = label[torch.arange(len(label), device=label.device), output.rater]
        values = compute_reconstruction_iou(output.logits, seen, self.ignore_index).double()
        known = ~values.isnan()
        total = torch.stack([values[known].sum(), known.sum().double()])
        self._total = total if self._total is None else self._total.to(total) + total

    def _complete_epoch(self, engine: Engine) -> None:
        total, self._total = self._total, None
        if total is None:  # an epoch without an iteration
            return
        if idist.get_world_size() > 1:
            total = idist.all_reduce(total)
        engine.state.metrics["reconstruction_iou"] = float(total[0] / total[1])
