# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import torch
from torch.nn.modules.loss import _Loss

from monai_stochseg.distributions import RefinementOutput, check_labels, check_weights
from monai_stochseg.distributions.arguments import (
    check_arguments,
    check_at_least,
    check_fields,
    check_option,
    check_same_shape,
)
from monai_stochseg.losses.calibration import CalibrationLoss
from monai_stochseg.losses.elbo import gaussian_kl
from monai_stochseg.losses.rater_cross_entropy import RaterCrossEntropyLoss
from monai_stochseg.losses.raters import check_target

__all__ = ["ConsistencyLoss"]


class ConsistencyLoss(_Loss):
    """
    Ties the samples of a refinement network to the data, beside the discriminator (Kassapis et al. 2021,
    https://arxiv.org/abs/2006.13144).

    Args:
        kind: ``"calibration"``, the method: the divergence between the samples' mean and the calibration output;
            ``"cross_entropy"``, its control, which collapses: that of every sample against every rater; ``"latent"``,
            for the variant with a probabilistic encoder: KL of the code to a standard normal, in nats per image;
            ``"cvae_gan"``, the paper's other baseline, with that encoder too: ``"cross_entropy"`` plus ``"latent"``.
        divergence: of ``"calibration"``, see :py:class:`monai_stochseg.losses.CalibrationLoss`.
        beta: factor of the KL of ``"latent"`` and ``"cvae_gan"``; the paper has 0.1, 1 and 10.
        ignore_index: label of void voxels. ``"calibration"`` leaves out a voxel that is void to any rater,
            ``"cross_entropy"`` only for the raters to whom it is void.

    Raises:
        ValueError: for another kind, a negative beta, or a divergence that CalibrationLoss does not know.

    Example::

        >>> from monai_stochseg.distributions import RefinementOutput
        >>> logits = torch.zeros(1, 2, 2, 1, 1)
        >>> logits[0, 0, 1], logits[0, 1, 1] = -9.0, 9.0  # one sample of each class: their mean is the calibration
        >>> output = RefinementOutput(logits, torch.full((1, 2, 1, 1), 0.5), torch.zeros(1, 1), torch.zeros(1, 1))
        >>> ConsistencyLoss()(output, torch.tensor([[[[0]], [[1]]]])).abs() < 1e-6
        tensor(True)
    """

    @check_arguments
    def __init__(
        self, kind: str = "calibration", divergence: str = "kl", beta: float = 1.0, ignore_index: int | None = None
    ) -> None:
        super().__init__()
        self.kind = check_option("kind", kind, ("calibration", "cross_entropy", "latent", "cvae_gan"))
        check_at_least(0, beta=beta)
        self.beta = beta
        self.ignore_index = ignore_index
        self.calibration = CalibrationLoss(divergence)
        self.cross_entropy = RaterCrossEntropyLoss(ignore_index)

    @check_arguments
    def forward(
        self, input: RefinementOutput, target: torch.Tensor, rater_weights: torch.Tensor | None = None
    ) -> torch.Tensor:
        """
        Args:
            input: what the network returns in training.
            target: integer labels of the raters, ``[B, raters, *S]``.
            rater_weights: ``[B, raters]``, non-negative, each row with a positive sum; a missing rater has weight 0.
                Otherwise only the cross entropy uses them.

        Raises:
            ValueError: when shapes do not fit or a label is outside the classes.
        """
        check_fields(input)
        check_same_shape(mean=input.mean, log_std=input.log_std)
        target = check_target(target, input.calibration, "input.calibration")
        weights = check_weights(rater_weights, target, maps_name="target")
        _, valid = check_labels(target, input.calibration.shape[1], self.ignore_index, weights=weights)
        loss = input.logits.new_zeros(())
        if self.kind in ("cross_entropy", "cvae_gan"):
            loss = self.cross_entropy(input.logits, target, weights)
        if self.kind in ("latent", "cvae_gan"):
            zero = torch.zeros_like(input.mean)
            loss = loss + self.beta * gaussian_kl(input.mean, input.log_std, zero, zero).sum(1).mean()
        if self.kind == "calibration":
            missing = (weights == 0).reshape(*weights.shape, *[1] * (valid.ndim - 2))
            mask = None if self.ignore_index is None else (valid | missing).all(1, keepdim=True)
            try:
                loss = self.calibration(input.logits.softmax(2), input.calibration, mask)
            except ValueError as error:  # whose input and target are parts of this input
                raise ValueError(
                    f"input, whose logits make CalibrationLoss's input and calibration its target: {error}"
                ) from None
        return loss
