# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from monai.engines.utils import IterationEvents
from monai.utils import CommonKeys

from monai_stochseg.distributions import BayesianOutput, LatentLevel, LatentOutput
from monai_stochseg.losses import gaussian_kl

__all__ = ["LatentDivergence"]


class LatentDivergence:
    """
    Handler of a trainer of a network with a latent, such as the Probabilistic U-Net: what the latent carries.

    At the end of each epoch ``engine.state.metrics`` holds the epoch's mean over images, of all processes, of
    KL(posterior || prior) in nats: ``kl``, a number, and ``kl_dimension``, an array with the part of each dimension
    of the latent, or of the latents of all levels one after the other, which :py:class:`MLFlowTracker` logs as
    ``kl_dimension_0``, ``kl_dimension_1``, ... Put this handler before those that log the metrics.

    When every dimension stays below ``threshold`` for ``patience`` epochs the posterior has collapsed: it tells the
    decoder nothing of the rater's label, and samples of an image will all be alike. A warning says so, once as long as
    this lasts: it comes again only when a dimension has reached ``threshold`` since, and all have then been below it
    for ``patience`` epochs once more.

    Args:
        threshold: nats of a dimension below which it carries nothing.
        patience: number of epochs in a row after which to warn.

    Raises:
        ValueError: when ``threshold`` is not positive or ``patience`` is below 1.
        TypeError: in training, when the network's output has no posterior and prior.
    """

    def __init__(self, threshold: float = 0.01, patience: int = 5) -> None:
        if threshold <= 0:
            raise ValueError(f"threshold must be positive but is {threshold}.")
        if patience < 1:
            raise ValueError(f"patience must be at least 1 epoch but is {patience}.")
        self.threshold = threshold
        self.patience = patience
        self._total: torch.Tensor | None = None
        self._collapsed_epochs = 0

    def attach(self, engine: Engine) -> None:
        """
        Args:
            engine: a trainer of MONAI.
        """
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(IterationEvents.FORWARD_COMPLETED, self._update)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._complete_epoch)

    def state_dict(self) -> dict[str, Any]:
        """What :py:class:`TrainingCheckpoint` keeps: the sums over this epoch's iterations, and the epochs in a row."""
        return {"total": self._total, "collapsed_epochs": self._collapsed_epochs}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore both."""
        self._total, self._collapsed_epochs = state["total"], state["collapsed_epochs"]

    def _start(self, engine: Engine) -> None:
        if engine.state.iteration == 0:
            self._total, self._collapsed_epochs = None, 0

    def _update(self, engine: Engine) -> None:
        output = engine.state.output[CommonKeys.PRED]
        output = output.latent if isinstance(output, BayesianOutput) else output
        if not isinstance(output, LatentOutput):
            raise TypeError(
                "the network's output must be LatentOutput, whose levels have a posterior and a prior, as that of "
                f"ProbabilisticUNet, got {type(output).__name__}."
            )
        divergence = torch.cat([_divergence(level) for level in output.levels], dim=1)
        # the number of images stands beside the sums, so that both are added over processes at once
        total = torch.cat([divergence.sum(0), divergence.new_tensor([len(divergence)])])
        self._total = total if self._total is None else self._total.to(total) + total

    def _complete_epoch(self, engine: Engine) -> None:
        total, self._total = self._total, None
        if total is None:  # an epoch without an iteration
            return
        if idist.get_world_size() > 1:
            total = idist.all_reduce(total)
        divergence = (total[:-1] / total[-1]).cpu().numpy()
        engine.state.metrics |= {"kl": float(divergence.sum()), "kl_dimension": divergence}
        self._collapsed_epochs = self._collapsed_epochs + 1 if (divergence < self.threshold).all() else 0
        if self._collapsed_epochs == self.patience and idist.get_rank() == 0:
            engine.logger.warning(
                f"posterior collapse: the KL of every dimension of the latent is below {self.threshold} nats for "
                f"{self.patience} epochs, samples of an image will be alike. Lower ELBOLoss's beta, raise it from 0 "
                "over the first epochs (LossSchedule), or set a target_reconstruction (GECO)."
            )


@torch.no_grad()
def _divergence(level: LatentLevel) -> torch.Tensor:
    """Nats of each dimension, ``[B, L]``, summed over the voxels of a latent that has them."""
    divergence = gaussian_kl(*level.posterior, *level.prior).double()
    return divergence.reshape(*divergence.shape[:2], -1).sum(2)
