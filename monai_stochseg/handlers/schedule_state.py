# SPDX-License-Identifier: Apache-2.0
"""The position of a learning-rate schedule, without its length."""

from __future__ import annotations

import warnings
from typing import Any

from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

__all__ = ["resume_schedule", "schedule_state"]

_PLATEAU = ("best", "num_bad_epochs", "cooldown_counter", "last_epoch")


def schedule_state(scheduler: LRScheduler) -> dict[str, Any]:
    """
    Read the position of a schedule: the steps it has taken and, for ``ReduceLROnPlateau``, its record of the metric.

    Unlike ``scheduler.state_dict()`` it has no lengths, milestones or factors: those belong to the configuration.
    """
    if isinstance(scheduler, ReduceLROnPlateau):
        learning_rates = [float(group["lr"]) for group in scheduler.optimizer.param_groups]
        return {**{k: getattr(scheduler, k) for k in _PLATEAU}, "learning_rates": learning_rates}
    return {"last_epoch": _steps(scheduler)}


def resume_schedule(scheduler: LRScheduler, state: dict[str, Any]) -> None:
    """
    Bring a fresh scheduler to a position, by its own steps, so that its own length and hyperparameters count.

    The learning rates are exactly those of an uninterrupted run of the configured schedule: a run resumed with a longer
    schedule continues on the longer one.

    Args:
        scheduler: a scheduler that has taken no step, its optimizer at the initial learning rates.
        state: from :func:`schedule_state`, possibly of a schedule with other hyperparameters.

    Raises:
        ValueError: when the scheduler has taken steps already, or ``state`` is that of another kind of schedule.
    """
    if _steps(scheduler) != 0:
        raise ValueError(f"a schedule resumes from its start, but this {type(scheduler).__name__} has taken steps.")
    plateau = isinstance(scheduler, ReduceLROnPlateau)
    if plateau != ("learning_rates" in state):
        raise ValueError(
            f"a {type(scheduler).__name__} cannot resume from the state {state} of another kind of schedule."
        )
    if plateau:
        for name in _PLATEAU:
            setattr(scheduler, name, state[name])
        for group, learning_rate in zip(scheduler.optimizer.param_groups, state["learning_rates"], strict=True):
            group["lr"] = learning_rate
        return
    with warnings.catch_warnings():
        # the optimizer's steps were taken before the interruption
        warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step", category=UserWarning)
        for _ in range(state["last_epoch"]):
            scheduler.step()


def _steps(scheduler: Any) -> int:
    while not hasattr(scheduler, "last_epoch"):  # in a ChainedScheduler only the parts count steps
        scheduler = scheduler._schedulers[0]
    return int(scheduler.last_epoch)
