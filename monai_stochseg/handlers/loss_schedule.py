# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np
from ignite.engine import Engine, Events

__all__ = ["LossSchedule"]


class LossSchedule:
    """
    Handler of a trainer that sets a number of the loss, such as beta of ``ELBOLoss``, at the start of every epoch.

    The value depends on the epoch alone: a resumed training needs no state of it.

    Args:
        loss: the loss function.
        name: its attribute.
        points: pairs ``[epoch, value]`` with ascending epochs, the first epoch being 1. Before the first point the
            value is that of the first, after the last that of the last.
        by_epoch: False counts iterations, from 1, instead of epochs.
        interpolation: ``"linear"`` between two points, or ``"step"``: the value of the last point reached.

    Raises:
        TypeError: when ``loss`` has no number of that name.
        ValueError: when ``points`` are not finite pairs with ascending epochs, or for another ``interpolation``.

    Example::

        LossSchedule(loss, "beta", [[1, 0.0], [20, 1.0]])  # rises over the first 20 epochs
    """

    def __init__(
        self,
        loss: Any,
        name: str,
        points: Sequence[Sequence[float]],
        by_epoch: bool = True,
        interpolation: str = "linear",
    ) -> None:
        if not isinstance(getattr(loss, name, None), Real):
            raise TypeError(f"loss must have a number `{name}` to schedule, but {type(loss).__name__} has not.")
        if not points or any(np.shape(point) != (2,) for point in points):
            raise ValueError(f"points must be pairs [epoch, value], at least one, but are {points}.")
        self.positions, self.values = np.array(points, dtype=float).T
        if not np.isfinite(points).all() or (np.diff(self.positions) <= 0).any():
            raise ValueError(f"points must be finite and their epochs must ascend, but are {points}.")
        if interpolation not in ("linear", "step"):
            raise ValueError(f"interpolation must be 'linear' or 'step' but is {interpolation!r}.")
        self.loss = loss
        self.name = name
        self.by_epoch = by_epoch
        self.interpolation = interpolation

    def attach(self, engine: Engine) -> None:
        """
        Args:
            engine: the trainer.
        """
        engine.add_event_handler(Events.EPOCH_STARTED if self.by_epoch else Events.ITERATION_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """Set the value for the epoch, or iteration, of ``engine.state``."""
        setattr(self.loss, self.name, self.value(engine.state.epoch if self.by_epoch else engine.state.iteration))

    def value(self, position: float) -> float:
        """The value at an epoch or iteration."""
        if self.interpolation == "linear":
            return float(np.interp(position, self.positions, self.values))
        reached = int(np.searchsorted(self.positions, position, side="right"))
        return float(self.values[max(reached - 1, 0)])
