# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from monai_stochseg.handlers.schedule_state import resume_schedule, schedule_state

__all__ = ["OptimizerState"]


class OptimizerState:
    """
    The state of a further optimizer and its schedule, for ``extra`` of :class:`TrainingCheckpoint`.

    As there, hyperparameters (learning rate, weight decay, the schedule and its length) are those of the configuration.

    Args:
        optimizer: such as that of a discriminator.
        lr_scheduler: its scheduler, of any kind except one that is stepped with explicit epochs.
    """

    def __init__(self, optimizer: Optimizer, lr_scheduler: LRScheduler) -> None:
        self.optimizer = optimizer
        self.lr_scheduler = lr_scheduler

    def state_dict(self) -> dict[str, Any]:
        """The optimizer's moments and the position of the schedule."""
        return {"state": self.optimizer.state_dict()["state"], "lr_scheduler": schedule_state(self.lr_scheduler)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """
        Restore both.

        Raises:
            ValueError: when the schedule has taken steps already, or is of another kind.
        """
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state["state"], "param_groups": groups})
        resume_schedule(self.lr_scheduler, state["lr_scheduler"])
