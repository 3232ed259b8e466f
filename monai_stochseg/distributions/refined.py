# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable

import torch

from monai_stochseg.distributions.arguments import check_arguments
from monai_stochseg.distributions.base import full_precision
from monai_stochseg.distributions.label_maps import softmax_entropy
from monai_stochseg.distributions.latent import LatentDistribution
from monai_stochseg.distributions.marginal import check_logits

__all__ = ["RefinedDistribution"]


class RefinedDistribution(LatentDistribution):
    """
    Label maps decoded from a code, with the calibration output that they refine.

    Args:
        mean: mean of the code, ``[B, L]``.
        log_std: log of the code's standard deviations, ``[B, L]``.
        decoder: maps one code per image ``[B, L]`` to logits ``[B, C, *S]``.
        calibration_logits: the calibration network's, ``[B, C, *S]``.

    Raises:
        ValueError: when the shapes do not fit each other.
    """

    @check_arguments
    def __init__(
        self,
        mean: torch.Tensor,
        log_std: torch.Tensor,
        decoder: Callable[[torch.Tensor], torch.Tensor],
        calibration_logits: torch.Tensor,
    ) -> None:
        super().__init__(mean, log_std, decoder)
        check_logits("calibration_logits", calibration_logits)
        if len(calibration_logits) != len(mean):
            raise ValueError(
                f"calibration_logits must be of the {len(mean)} items of mean, got {len(calibration_logits)}."
            )
        self._log_calibration = full_precision(calibration_logits).log_softmax(1)

    def mode_logits(self) -> torch.Tensor:
        """
        Log of the calibration output, ``[B, C, *S]``, the single answer: it is what the samples' mean is trained to
        be, and no single code's sample is more representative than another's.
        """
        return self._log_calibration

    def calibration_output(self) -> torch.Tensor:
        """How probable each class is in each voxel, ``[B, C, *S]``, without a sample."""
        return self._log_calibration.exp()

    def entropy(self) -> torch.Tensor:
        """Entropy of the calibration output in nats, ``[B, 1, *S]``: the uncertainty without a sample."""
        return softmax_entropy(self.calibration_output())
