# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.networks.utils import get_state_dict
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

__all__ = ["AveragedWeights"]


class AveragedWeights:
    """
    Handler of a trainer that keeps an exponential average of the network's weights and buffers, by PyTorch's
    ``AveragedModel``.

    After step n the average is ``d a + (1 - d) w``, with d the smaller one of ``decay`` and ``(1 + n) / (10 + n)``, so
    that the first steps are soon forgotten. The trained network itself is left as it is: let the evaluator judge
    :py:attr:`network`, and the checkpoint keep it as the best
    (``TrainingCheckpoint(..., best_network=averaged.network)``). Give the checkpoint this handler among its ``extra``
    objects: a resumed training then continues the same average.

    Args:
        network: the trained network, wrapped or not.
        decay: of the average, in (0, 1); with 0.999 it is that of some 1000 steps.

    Raises:
        ValueError: when ``decay`` is not in (0, 1).
    """

    def __init__(self, network: nn.Module, decay: float = 0.999) -> None:
        if isinstance(decay, bool) or not 0 < decay < 1:
            raise ValueError(f"decay must lie in (0, 1), got {decay}.")
        self.decay = decay
        self.trained = network
        self.averaged = AveragedModel(getattr(network, "module", network), multi_avg_fn=self._average, use_buffers=True)

    @property
    def network(self) -> nn.Module:
        """The network with the averaged weights, never wrapped."""
        module: nn.Module = self.averaged.module
        return module

    def attach(self, engine: Engine) -> None:
        """
        Args:
            engine: the trainer.
        """
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._update)

    def state_dict(self) -> dict[str, Any]:
        """What :py:class:`TrainingCheckpoint` keeps: the average, and the number of its steps."""
        state: dict[str, Any] = self.averaged.state_dict()
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore both."""
        self.averaged.load_state_dict(state)

    def _start(self) -> None:
        if self.averaged.n_averaged == 0:  # weights may have been loaded since
            self.network.load_state_dict(get_state_dict(self.trained))

    def _update(self) -> None:
        self.averaged.update_parameters(getattr(self.trained, "module", self.trained))

    def _average(self, averaged: Any, current: Any, step: torch.Tensor | int) -> None:
        number = int(step)
        get_ema_multi_avg_fn(min(self.decay, (1 + number) / (10 + number)))(averaged, current, number)
