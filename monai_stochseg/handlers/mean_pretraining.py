# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import torch
from ignite.engine import Engine, Events
from torch import nn
from torch.optim import Optimizer

__all__ = ["MeanPretraining"]


class MeanPretraining:
    """
    Handler of a trainer that trains only the mean of the distribution for the first epochs.

    The remedy of Monteiro et al. 2020 (Stochastic Segmentation Networks, https://arxiv.org/abs/2006.06015) against a
    covariance that grows without bound before the mean has found the object. After these epochs the state of the
    optimiser is reset for parameters that had no gradient.

    Args:
        loss: a loss with the boolean attribute ``mean_only``, as ``SSNLoss``.
        epochs: number of first epochs in which ``mean_only`` is true; 0 trains all from the start.

    Raises:
        TypeError: when ``loss`` has no attribute ``mean_only``.
        ValueError: when ``epochs`` is negative.
    """

    def __init__(self, loss: nn.Module, epochs: int) -> None:
        if not hasattr(loss, "mean_only"):
            raise TypeError(f"loss must have the attribute `mean_only`, as SSNLoss, but {type(loss).__name__} has not.")
        if epochs < 0:
            raise ValueError(f"epochs must be at least 0 but is {epochs}.")
        self.loss = loss
        self.epochs = epochs

    def attach(self, engine: Engine) -> None:
        """
        Args:
            engine: the trainer.
        """
        engine.add_event_handler(Events.EPOCH_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """Set ``loss.mean_only`` for the epoch ``engine.state.epoch``."""
        self.loss.mean_only = engine.state.epoch <= self.epochs
        # not where a run resumes within that epoch, whose optimizer has forgotten them already
        if engine.state.epoch == self.epochs + 1 and engine.state.iteration == self.epochs * engine.state.epoch_length:
            _forget_zero_gradients(engine.optimizer)


def _forget_zero_gradients(optimizer: Optimizer) -> None:
    """
    Reset the optimiser's state of parameters whose gradients were all zero.

    Adam would otherwise divide their first gradient by a second moment that a large step count no longer corrects: the
    covariance would start with steps of several times the learning rate.
    """
    for parameter, state in list(optimizer.state.items()):
        moments = [x for x in state.values() if isinstance(x, torch.Tensor) and x.shape == parameter.shape]
        if moments and parameter.dim() and not any(bool(moment.any()) for moment in moments):
            del optimizer.state[parameter]
