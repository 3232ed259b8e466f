# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from monai.engines.utils import IterationEvents
from monai.utils import CommonKeys

from monai_stochseg.metrics import compute_sample_diversity

__all__ = ["RefinementMonitor"]

_METRICS = ("sample_diversity", "calibration_gap", "discriminator_accuracy")


class RefinementMonitor:
    """
    Handler of an :py:class:`monai_stochseg.engines.AdversarialRefinementTrainer` that shows whether samples collapse.

    At the end of each epoch ``engine.state.metrics`` holds these means over the epoch's iterations, of all processes:

    * ``sample_diversity``: mean distance, 1 - IoU, of two label maps drawn for the first image of the batch, see
      :py:func:`monai_stochseg.metrics.compute_sample_diversity`: 0 where all are equal;
    * ``calibration_gap``: mean absolute difference between the mean of the samples' probabilities and the calibration
      output, over images, classes and voxels; with N samples it includes their sampling noise;
    * ``discriminator_accuracy``: share of the label maps that the discriminator classifies correctly, 0.5 for a guess.

    Put this handler before those that log the metrics. When ``sample_diversity`` stays at or below ``threshold`` for
    ``patience`` epochs a warning says so, once until it rises again.

    Args:
        threshold: diversity up to which samples count as collapsed.
        patience: number of epochs in a row after which to warn.

    Raises:
        ValueError: when ``threshold`` is outside [0, 1) or ``patience`` is below 1.
    """

    def __init__(self, threshold: float = 1e-3, patience: int = 5) -> None:
        if not 0 <= threshold < 1:
            raise ValueError(f"threshold must be in [0, 1) but is {threshold}.")
        if patience < 1:
            raise ValueError(f"patience must be at least 1 epoch but is {patience}.")
        self.threshold = threshold
        self.patience = patience
        self._values: list[torch.Tensor] = []
        self._collapsed_epochs = 0

    def attach(self, engine: Engine) -> None:
        """
        Args:
            engine: the trainer.
        """
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(IterationEvents.LOSS_COMPLETED, self._update)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._complete_epoch)

    def state_dict(self) -> dict[str, Any]:
        """What :py:class:`TrainingCheckpoint` keeps: the values of this epoch's iterations, and the epochs in a row."""
        return {"values": list(self._values), "collapsed_epochs": self._collapsed_epochs}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore both."""
        self._values, self._collapsed_epochs = list(state["values"]), state["collapsed_epochs"]

    def _start(self, engine: Engine) -> None:
        if engine.state.iteration == 0:
            self._values, self._collapsed_epochs = [], 0

    def _update(self, engine: Engine) -> None:
        output = engine.state.output
        logits, calibration, *_ = output[CommonKeys.PRED]
        gap = (logits.detach().softmax(2).mean(1) - calibration).abs().mean()
        diversity = compute_sample_diversity(logits[:1].argmax(2), logits.shape[2], self_pairs=True)
        values = torch.stack([diversity[0].to(gap), gap, output["discriminator_accuracy"].to(gap)])
        self._values.append(values.double())

    def _complete_epoch(self, engine: Engine) -> None:
        values, self._values = self._values, []
        if not values:  # an epoch without an iteration
            return
        # those of a resumed run come from a file, on the CPU
        mean = torch.stack([value.to(values[-1]) for value in values]).mean(0)
        if idist.get_world_size() > 1:
            mean = idist.all_reduce(mean) / idist.get_world_size()
        engine.state.metrics |= dict(zip(_METRICS, mean.tolist(), strict=True))
        collapsed = engine.state.metrics["sample_diversity"] <= self.threshold
        self._collapsed_epochs = self._collapsed_epochs + 1 if collapsed else 0
        if self._collapsed_epochs == self.patience and idist.get_rank() == 0:
            engine.logger.warning(
                f"collapse: for {self.patience} epochs the samples of an image differ by no more than {self.threshold} "
                "(1 - IoU). Draw more samples of each image, raise the weight of the calibration loss, or check "
                "whether the calibration output is certain everywhere."
            )
