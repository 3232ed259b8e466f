# SPDX-License-Identifier: Apache-2.0
"""The second stage of Calibrated Adversarial Refinement, as bundles train it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from ignite.engine import Engine
from monai.data import Dataset
from monai.engines import SupervisedTrainer
from monai.handlers import LrScheduleHandler
from monai.utils import look_up_option
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from monai_stochseg.bundle.training import make_trainer
from monai_stochseg.engines import AdversarialRefinementTrainer
from monai_stochseg.handlers import LossGuard, OptimizerState, RefinementMonitor
from monai_stochseg.losses import CalibrationLoss, RaterCrossEntropyLoss, gaussian_kl
from monai_stochseg.networks.nets import RefinementOutput


class ConsistencyLoss(nn.Module):
    """
    What ties the samples of a refinement network to the data, beside the discriminator (Kassapis et al. 2021,
    https://arxiv.org/abs/2006.13144).

    Args:
        kind: ``"calibration"``, the method: the divergence between the samples' mean and the calibration output;
            ``"cross_entropy"``, its control, which collapses: that of every sample against every rater; ``"latent"``,
            for the variant with a probabilistic encoder: KL of the code to a standard normal, in nats per image.
        divergence: of ``"calibration"``, see :py:class:`monai_stochseg.losses.CalibrationLoss`.
        beta: factor of ``"latent"``.
        ignore_index: label of void voxels, which are left out where any rater has it (``"calibration"``), or for the
            rater who has it.

    Raises:
        ValueError: for another kind, or a divergence that CalibrationLoss does not know.
    """

    def __init__(
        self, kind: str = "calibration", divergence: str = "kl", beta: float = 1.0, ignore_index: int | None = None
    ) -> None:
        super().__init__()
        self.kind = look_up_option(kind, ("calibration", "cross_entropy", "latent"))
        self.beta = beta
        self.ignore_index = ignore_index
        self.calibration = CalibrationLoss(divergence)
        self.cross_entropy = RaterCrossEntropyLoss(ignore_index)

    def forward(self, output: RefinementOutput, label: torch.Tensor) -> torch.Tensor:
        """
        Args:
            output: what the network returns in training.
            label: of the raters, ``[B, R, *S]``.
        """
        if self.kind == "cross_entropy":
            loss: torch.Tensor = self.cross_entropy(output.logits, label)
        elif self.kind == "latent":
            zero = torch.zeros_like(output.mean)
            loss = self.beta * gaussian_kl(output.mean, output.log_std, zero, zero).sum(1).mean()
        else:
            mask = None if self.ignore_index is None else (label != self.ignore_index).all(1, keepdim=True)
            loss = self.calibration(output.logits.softmax(2), output.calibration, mask)
        return loss


def make_refinement_trainer(
    network: nn.Module,
    loss: nn.Module,
    optimizer: Optimizer,
    lr_scheduler: LRScheduler,
    evaluator: Engine,
    dataset: Dataset,
    discriminator: nn.Module,
    discriminator_optimizer: Optimizer,
    discriminator_lr_scheduler: LRScheduler,
    options: Mapping[str, Any] | None = None,
    handlers: Sequence[Any] = (),
    **kwargs: Any,
) -> SupervisedTrainer:
    """
    An :py:class:`monai_stochseg.engines.AdversarialRefinementTrainer` with the handlers of every bundle, those of
    the discriminator (its loss guard, its schedule, its state in the checkpoints) and
    :py:class:`monai_stochseg.handlers.RefinementMonitor`.

    Args:
        network: a CalibratedAdversarialRefinement, on its device, and wrapped where training is distributed.
        loss: such as :py:class:`ConsistencyLoss`; takes what the network returns and the batch's ``label``.
        optimizer: of the refinement.
        lr_scheduler: stepped each epoch.
        evaluator: see :py:func:`monai_stochseg.bundle.make_trainer`.
        dataset: cases with ``image`` and ``label``.
        discriminator: on its device, and wrapped where training is distributed.
        discriminator_optimizer: of the discriminator.
        discriminator_lr_scheduler: stepped each epoch.
        options: further arguments of the trainer, such as ``num_samples``, ``d_on`` and ``d_off``.
        handlers: further handlers.
        kwargs: further arguments of :py:func:`monai_stochseg.bundle.make_trainer`.
    """
    return make_trainer(
        network,
        loss,
        optimizer,
        lr_scheduler,
        evaluator,
        dataset,
        handlers=[
            RefinementMonitor(),
            LossGuard(discriminator),
            LrScheduleHandler(discriminator_lr_scheduler, print_lr=False),
            *handlers,
        ],
        state={
            "discriminator": getattr(discriminator, "module", discriminator),
            "discriminator_optimizer": OptimizerState(discriminator_optimizer, discriminator_lr_scheduler),
        },
        trainer_class=partial(
            AdversarialRefinementTrainer,
            discriminator=discriminator,
            discriminator_optimizer=discriminator_optimizer,
            **(options or {}),
        ),
        **kwargs,
    )
