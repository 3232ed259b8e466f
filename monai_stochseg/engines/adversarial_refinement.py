# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import ignite.distributed as idist
import torch
from monai.engines import SupervisedTrainer
from monai.engines.utils import IterationEvents
from monai.networks import one_hot
from monai.utils.enums import AdversarialKeys
from monai.utils.enums import CommonKeys as Keys
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer

from monai_stochseg.distributions import check_labels, check_weights, draw_map
from monai_stochseg.distributions.base import plain
from monai_stochseg.losses import DiscriminatorLoss, LogitAdversarialLoss


class AdversarialRefinementTrainer(SupervisedTrainer):
    """
    The second stage of Calibrated Adversarial Refinement (Kassapis et al. 2021, https://arxiv.org/abs/2006.13144):
    trains the refinement network against a discriminator, with a loss that ties its samples to the calibration output.

    In an iteration the frozen calibration network and the refinement run once, for N samples of each image. The
    generator's loss is ``adversarial_weight * generator_loss + calibration_weight * loss_function``; it goes through
    the discriminator without a gradient to its weights. The discriminator's loss sets the label map of one rater of
    each image against the same samples. The rater is drawn anew, in proportion to the batch's ``rater_weights`` where
    it has them, and so never a missing one, of weight 0. Both gradients are taken before either network steps. In
    cycles of iterations the discriminator steps ``d_on`` times and then rests ``d_off`` times; where the cycle stands
    follows from ``state.iteration``, and so a resumed training needs no state of it. Codes and raters are drawn from
    PyTorch's global generator, which :py:class:`monai_stochseg.handlers.EpochSeed` seeds.

    Each of MONAI's iteration events fires once, with the losses of both networks there at ``LOSS_COMPLETED`` and both
    gradients at ``BACKWARD_COMPLETED``. The output has MONAI's keys: ``image``, ``label``, ``pred`` (what the
    network returned), ``loss`` (the generator's), and of its ``AdversarialKeys`` ``reals`` (one-hot ``[B, C, *S]``),
    ``fakes`` (probabilities ``[B * N, C, *S]``), ``real_logits``, ``fake_logits``, ``generator_loss``,
    ``reconstruction_loss`` (that of ``loss_function``), each before its weight, and, in iterations in which the
    discriminator steps, ``discriminator_loss``; and ``discriminator_accuracy``, the share of label maps told right, the
    mean over raters' and samples.

    Args:
        args: arguments of MONAI's SupervisedTrainer. ``network`` is a
            :py:class:`monai_stochseg.networks.nets.CalibratedAdversarialRefinement`, or a module with its
            ``calibration`` and its ``forward(image, num_samples=)``; ``optimizer`` is the refinement's;
            ``loss_function`` takes what the network returns, the label ``[B, R, *S]`` and the raters' weights
            ``[B, R]`` or None, as :py:class:`monai_stochseg.losses.ConsistencyLoss` does. Both networks may be wrapped
            in DistributedDataParallel.
        discriminator: maps images and label maps ``[B, C, *S]`` to logits, positive where it takes them for a rater's;
            without batch norm.
        discriminator_optimizer: its optimizer.
        generator_loss: takes the discriminator's logits of samples. Default: the non-saturating one.
        discriminator_loss: takes the discriminator, images ``[B, C_in, *S]``, the raters' maps ``[B, C, *S]`` and the
            samples ``[B * N, C, *S]``, those of an image one after the other (the discriminator then takes an image as
            often as needed); returns what has a ``loss``. Default: with the R1 penalty, see
            :py:class:`monai_stochseg.losses.DiscriminatorLoss`.
        num_samples: samples N of each image; the paper has 20 on LIDC, 7 on Cityscapes.
        adversarial_weight: of the generator's loss.
        calibration_weight: of ``loss_function``.
        d_on: iterations in which the discriminator steps, at the start of every cycle.
        d_off: iterations in which it rests.
        max_accuracy: accuracy above which the discriminator does not step. Default: it always does in its iterations.
        ignore_index: label of void voxels: in them the discriminator sees zeros, in the samples too.
        kwargs: further arguments of MONAI's SupervisedTrainer.

    Raises:
        TypeError: when the network has no calibration network.
        ValueError: when the calibration network is not frozen, the discriminator has batch norm, d_on is below 1 or
            d_off below 0, max_accuracy is outside (0, 1], num_samples is below 1, or gradients are to be accumulated
            over iterations; in training, when a label is outside the classes or the weights do not match it.
    """

    def __init__(
        self,
        *args: Any,
        discriminator: nn.Module,
        discriminator_optimizer: Optimizer,
        generator_loss: Callable[[torch.Tensor], torch.Tensor] | None = None,
        discriminator_loss: Callable[..., Any] | None = None,
        num_samples: int = 20,
        adversarial_weight: float = 10.0,
        calibration_weight: float = 5.0,
        d_on: int = 50,
        d_off: int = 200,
        max_accuracy: float | None = None,
        ignore_index: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        if self.accumulation_steps != 1:
            raise ValueError(
                f"accumulation_steps must be 1, for two networks take turns, got {self.accumulation_steps}."
            )
        if num_samples < 1:
            raise ValueError(f"num_samples must be at least 1, got {num_samples}.")
        if d_on < 1 or d_off < 0:
            raise ValueError(
                "the discriminator must step in at least 1 iteration of a cycle, d_on, and rest in 0 or more, d_off: "
                f"got d_on={d_on}, d_off={d_off}."
            )
        if max_accuracy is not None and not 0 < max_accuracy <= 1:
            raise ValueError(f"max_accuracy must be in (0, 1], or None for no limit, got {max_accuracy}.")
        if any(isinstance(module, _BatchNorm) for module in discriminator.modules()):
            raise ValueError(
                "the discriminator has batch norm, which the generator's step would move: use another norm."
            )
        calibration = getattr(_unwrapped(self.network), "calibration", None)
        if not isinstance(calibration, nn.Module):
            raise TypeError(
                "network must have a calibration network, as CalibratedAdversarialRefinement has, but "
                f"{type(_unwrapped(self.network)).__name__} has none."
            )
        trained = [name for name, parameter in calibration.named_parameters() if parameter.requires_grad]
        if trained:
            raise ValueError(
                f"the calibration network is not frozen, {len(trained)} of its parameters take a gradient, first "
                f"{trained[0]}: its output is the target. Call calibration.requires_grad_(False) first."
            )
        self.discriminator = discriminator
        self.discriminator_optimizer = discriminator_optimizer
        adversarial = LogitAdversarialLoss()
        self.generator_loss = generator_loss or (lambda logits: adversarial(logits, True, for_discriminator=False))
        self.discriminator_loss = discriminator_loss or DiscriminatorLoss()
        self.num_samples = num_samples
        self.adversarial_weight = adversarial_weight
        self.calibration_weight = calibration_weight
        self.d_on = d_on
        self.d_off = d_off
        self.max_accuracy = max_accuracy
        self.ignore_index = ignore_index

    def _iteration(self, engine: AdversarialRefinementTrainer, batchdata: dict[str, torch.Tensor]) -> dict:
        batch = engine.prepare_batch(batchdata, engine.state.device, engine.non_blocking, **engine.to_kwargs)
        inputs, targets, args, kwargs = batch if len(batch) == 4 else (*batch, (), {})
        image, label = plain(inputs), plain(targets)
        rater_weights = batchdata.get("rater_weights")
        if rater_weights is not None:
            rater_weights = check_weights(rater_weights, label)
        engine.state.output = output = {Keys.IMAGE: inputs, Keys.LABEL: targets}
        engine.network.train()
        _unwrapped(engine.network).calibration.eval()
        engine.discriminator.train()
        engine.optimizer.zero_grad(set_to_none=engine.optim_set_to_none)
        engine.discriminator_optimizer.zero_grad(set_to_none=engine.optim_set_to_none)
        with torch.autocast(engine.state.device.type, enabled=engine.amp, **engine.amp_kwargs):
            pred = engine.inferer(image, engine.network, *args, num_samples=engine.num_samples, **kwargs)
            output[Keys.PRED] = pred
            engine.fire_event(IterationEvents.FORWARD_COMPLETED)
            reals, valid = engine._draw_reals(label, rater_weights, pred.logits.shape[2])
            fakes = (pred.logits.softmax(2) * valid.unsqueeze(1)).flatten(0, 1)
            engine._discriminate(image, reals, fakes)
            output[AdversarialKeys.GENERATOR_LOSS] = engine.generator_loss(output[AdversarialKeys.FAKE_LOGITS])
            output[AdversarialKeys.RECONSTRUCTION_LOSS] = engine.loss_function(pred, label, rater_weights).mean()
            output[Keys.LOSS] = (
                engine.adversarial_weight * output[AdversarialKeys.GENERATOR_LOSS]
                + engine.calibration_weight * output[AdversarialKeys.RECONSTRUCTION_LOSS]
            )
            losses = [(output[Keys.LOSS], engine.optimizer)]
            if engine._discriminator_steps():
                judge = partial(_judge, engine.discriminator)
                loss = engine.discriminator_loss(judge, image, reals, fakes.detach()).loss
                output[AdversarialKeys.DISCRIMINATOR_LOSS] = loss
                losses.append((loss, engine.discriminator_optimizer))
            engine.fire_event(IterationEvents.LOSS_COMPLETED)
        scaler = engine.scaler or torch.GradScaler(engine.state.device.type, enabled=False)
        for loss, _ in losses:
            scaler.scale(loss).backward()
        engine.fire_event(IterationEvents.BACKWARD_COMPLETED)
        for _, optimizer in losses:
            scaler.step(optimizer)
        scaler.update()
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return engine.state.output

    def _draw_reals(
        self, label: torch.Tensor, rater_weights: torch.Tensor | None, num_classes: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The one-hot label map of one rater of each image, 0 where void, and which voxels are not, ``[B, 1, *S]``."""
        weights = check_weights(rater_weights, label)
        checked = check_labels(label, num_classes, self.ignore_index, "label", weights)
        items, rater = torch.arange(len(label), device=label.device), draw_map(weights)
        labels, valid = (x[items, rater].unsqueeze(1) for x in checked)
        return one_hot(labels, num_classes) * valid, valid

    def _discriminate(self, image: torch.Tensor, reals: torch.Tensor, fakes: torch.Tensor) -> None:
        """The discriminator's logits of both, with a gradient to the samples and none to the discriminator."""
        discriminator = _unwrapped(self.discriminator)
        with _frozen(discriminator):
            real, fake = _judge(discriminator, image, reals), _judge(discriminator, image, fakes)
        self.state.output |= {
            AdversarialKeys.REALS: reals,
            AdversarialKeys.FAKES: fakes,
            AdversarialKeys.REAL_LOGITS: real,
            AdversarialKeys.FAKE_LOGITS: fake,
            "discriminator_accuracy": ((real > 0).double().mean() + (fake <= 0).double().mean()) / 2,
        }

    def _discriminator_steps(self) -> bool:
        """Whether the discriminator steps in this iteration, the same in all processes."""
        if (self.state.iteration - 1) % (self.d_on + self.d_off) >= self.d_on:
            return False
        if self.max_accuracy is None:
            return True
        accuracy = self.state.output["discriminator_accuracy"]
        if idist.get_world_size() > 1:
            accuracy = idist.all_reduce(accuracy) / idist.get_world_size()
        return float(accuracy) <= self.max_accuracy


def _judge(discriminator: nn.Module, image: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
    """The logits of one label map of each image, or of several, those of an image one after the other."""
    logits: torch.Tensor = discriminator(image.repeat_interleave(len(maps) // len(image), dim=0), maps)
    return logits


@contextmanager
def _frozen(network: nn.Module) -> Iterator[None]:
    """No gradient to the network's weights, whatever runs inside."""
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


def _unwrapped(network: nn.Module) -> Any:
    return getattr(network, "module", network)
