# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from monai.losses import PatchAdversarialLoss
from monai.losses.adversarial_loss import AdversarialCriterions
from monai.utils import LossReduction
from torch import nn
from torch.nn.modules.loss import _Loss

from monai_stochseg.distributions import full_precision
from monai_stochseg.distributions.arguments import (
    check_arguments,
    check_at_least,
    check_axes,
    check_option,
    check_same_images,
)


class LogitAdversarialLoss(PatchAdversarialLoss):
    """
    MONAI's PatchAdversarialLoss with its ``"bce"`` computed on logits, in float32 or better under autocast too.

    MONAI's own loss takes the logarithm of a sigmoid, which has no gradient where the discriminator is sure. This one
    is ``softplus(-logit)`` for real and ``softplus(logit)`` for fake data. The generator's loss is the non-saturating
    one (Goodfellow et al. 2014, https://arxiv.org/abs/1406.2661): ``loss(fake_logits, True, for_discriminator=False)``.

    Args:
        reduction: ``"mean"``, ``"sum"`` or ``"none"``, as in PatchAdversarialLoss.

    Example::

        >>> loss = LogitAdversarialLoss()
        >>> loss(torch.tensor([[0.0]]), True, for_discriminator=False)  # log 2
        tensor(0.6931)
    """

    @check_arguments
    def __init__(self, reduction: LossReduction | str = LossReduction.MEAN) -> None:
        reduction = check_option("reduction", reduction, LossReduction)
        super().__init__(reduction=reduction, criterion=AdversarialCriterions.BCE)
        self.activation = None
        self.loss_fct = nn.BCEWithLogitsLoss(reduction=reduction.value)

    @check_arguments
    def forward(
        self, input: torch.Tensor | Sequence[torch.Tensor], target_is_real: bool, for_discriminator: bool
    ) -> torch.Tensor | list[torch.Tensor]:
        """
        Args:
            input: logits of the discriminator, one tensor or one for each scale.
            target_is_real: whether they are to be those of real data.
            for_discriminator: whether the loss is the discriminator's.
        """
        for logits in [input] if isinstance(input, torch.Tensor) else input:
            check_axes("[B, ...]", 1, input=logits)
        result: torch.Tensor | list[torch.Tensor] = super().forward(input, target_is_real, for_discriminator)
        return result

    def _forward_single(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        with torch.autocast(input.device.type, enabled=False):
            result: torch.Tensor = super()._forward_single(full_precision(input), full_precision(target))
            return result


class DiscriminatorTerms(NamedTuple):
    """
    The discriminator's ``loss`` and its parts: the logits ``[B, 1]`` of ``real`` and of ``fake`` label maps, and the
    gradient ``penalty`` ``[B]``. The parts are detached.
    """

    loss: torch.Tensor
    real: torch.Tensor
    fake: torch.Tensor
    penalty: torch.Tensor


class DiscriminatorLoss(_Loss):
    """
    Loss of a discriminator: adversarial on real and on fake label maps, and the R1 penalty on the real ones (Mescheder
    et al. 2018, https://arxiv.org/abs/1801.04406), as in Kassapis et al. 2021 (https://arxiv.org/abs/2006.13144).

    Args:
        r1_weight: weight of the penalty. The paper has 10; 0 leaves it out.

    Raises:
        ValueError: for a negative weight.

    Example::

        >>> real, fake = torch.ones(1, 1, 2, 2), torch.zeros(1, 1, 2, 2)
        >>> terms = DiscriminatorLoss(r1_weight=0)(lambda x, y: y.flatten(1).sum(1, keepdim=True), real, real, fake)
        >>> terms.real, terms.fake
        (tensor([[4.]]), tensor([[0.]]))
    """

    @check_arguments
    def __init__(self, r1_weight: float = 10.0) -> None:
        super().__init__()
        check_at_least(0, r1_weight=r1_weight)
        self.r1_weight = r1_weight
        self.adversarial = LogitAdversarialLoss()

    @check_arguments
    def forward(
        self,
        discriminator: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
        x: torch.Tensor,
        real: torch.Tensor,
        fake: torch.Tensor,
    ) -> DiscriminatorTerms:
        """
        Args:
            discriminator: maps images and label maps to logits ``[B, 1]``.
            x: images ``[B, C_in, *S]``.
            real: one-hot labels ``[B, C, *S]``.
            fake: probabilities of the samples ``[B, C, *S]``; their gradient is cut. There may be several samples of
                each image if the discriminator takes them.

        Raises:
            ValueError: when the shapes do not fit each other.
        """
        check_same_images(x=x, real=real)
        if fake.shape[1:] != real.shape[1:] or not len(fake) or len(fake) % len(real):
            raise ValueError(
                f"fake must be [B, C, *S] as real, {tuple(real.shape)}, or samples of each of its items, got "
                f"{tuple(fake.shape)}."
            )
        fake_logits = discriminator(x, fake.detach())
        if self.r1_weight > 0:
            real_logits, penalty = r1_penalty(discriminator, x, real)
        else:
            real_logits = discriminator(x, real)
            penalty = real_logits.new_zeros(len(real_logits))
        loss = self.adversarial(real_logits, True, for_discriminator=True)
        loss = loss + self.adversarial(fake_logits, False, for_discriminator=True)
        loss = loss + self.r1_weight * penalty.mean()
        return DiscriminatorTerms(loss, real_logits.detach(), fake_logits.detach(), penalty.detach())


@check_arguments
def r1_penalty(discriminator: Callable[..., torch.Tensor], *inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Squared norm of the gradient of a discriminator's logit to all of its inputs, per item, in float32 or better under
    autocast too (Mescheder et al. 2018, https://arxiv.org/abs/1801.04406, equation 9, without the factor 1/2).

    Args:
        discriminator: maps the inputs to one logit of each item, ``[B, 1]``, which depends on no other item.
        inputs: real data, each ``[B, C, *S]``.

    Returns:
        the logits ``[B, 1]`` and the penalty ``[B]``, both with gradients to the discriminator's weights.

    Raises:
        TypeError: when an input is no tensor, or there is none.
        ValueError: when inputs differ in B or S.
    """
    if not inputs or not all(isinstance(x, torch.Tensor) for x in inputs):
        raise TypeError(f"inputs must be one or more tensors, got {[type(x).__name__ for x in inputs]}.")
    check_same_images(**{f"inputs[{i}]": x for i, x in enumerate(inputs)})
    with torch.enable_grad(), torch.autocast(inputs[0].device.type, enabled=False):
        real = [full_precision(x).detach().requires_grad_() for x in inputs]
        logits = discriminator(*real)
        gradients = torch.autograd.grad(logits.sum(), real, create_graph=True)
        penalty = torch.stack([g.square().flatten(1).sum(1) for g in gradients]).sum(0)
        return logits, penalty
