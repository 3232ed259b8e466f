# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from monai_stochseg.distributions import autocast_mode, full_precision
from monai_stochseg.networks.nets.probabilistic_unet import LatentDistribution
from monai_stochseg.networks.nets.refinement_network import RefinementNetwork, RefinementOutput


class RefinedDistribution(LatentDistribution):
    """
    Label maps decoded from a code, with the calibration output that they refine.

    Args:
        mean: mean of the code, ``[B, L]``.
        log_std: log of the code's standard deviations, ``[B, L]``.
        decoder: maps one code per image ``[B, L]`` to logits ``[B, C, *S]``.
        calibration_logits: the calibration network's, ``[B, C, *S]``.
    """

    def __init__(
        self,
        mean: torch.Tensor,
        log_std: torch.Tensor,
        decoder: Callable[[torch.Tensor], torch.Tensor],
        calibration_logits: torch.Tensor,
    ) -> None:
        super().__init__(mean, log_std, decoder)
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
        return torch.special.entr(self.calibration_output()).sum(1, keepdim=True)


class CalibratedAdversarialRefinement(nn.Module):
    """
    Calibrated Adversarial Refinement (Kassapis et al. 2021, https://arxiv.org/abs/2006.13144): a trained calibration
    network says how probable each class is in each voxel, and a refinement network draws coherent label maps of which
    the mean is that.

    The calibration network is frozen: its weights take no gradient, and it stays in evaluation mode, whatever
    ``train()`` says, so that neither dropout nor batch norm move the target.

    Args:
        calibration: any module that maps images ``[B, C_in, *S]`` to logits ``[B, C, *S]``, such as
            :py:class:`CalibrationNetwork` or a network of MONAI. It is frozen in place.
        refinement: the refinement network.

    Raises:
        ValueError: when the calibration network says of itself that it has other classes than the refinement.

    Example::

        net = CalibratedAdversarialRefinement(calibration, RefinementNetwork(2, in_channels=1, out_channels=2))
        samples = net.predictive(image).sample_logits(16).argmax(2)  # [B, 16, *S]
        uncertainty = net.predictive(image).entropy()  # [B, 1, *S]
    """

    def __init__(self, calibration: nn.Module, refinement: RefinementNetwork) -> None:
        super().__init__()
        classes = getattr(calibration, "out_channels", refinement.out_channels)
        if classes != refinement.out_channels:
            raise ValueError(
                f"calibration and refinement must have the same classes, got out_channels={classes} and "
                f"{refinement.out_channels}."
            )
        for parameter in calibration.parameters():  # a TorchScript module has no requires_grad_ of its own
            parameter.requires_grad_(False)
        self.calibration = calibration
        self.refinement = refinement
        self.train()

    def train(self, mode: bool = True) -> CalibratedAdversarialRefinement:
        """Training or evaluation mode of the refinement network; the calibration network stays in evaluation mode."""
        super().train(mode)
        self.calibration.eval()
        return self

    def forward(
        self, x: torch.Tensor, num_samples: int = 20, generator: torch.Generator | None = None
    ) -> RefinementOutput:
        """
        A training step of the refinement network.

        Args:
            x: image ``[B, C_in, *S]``.
            num_samples: number of samples N of each image.
            generator: source of the codes; the default is PyTorch's global one.

        Raises:
            ValueError: for num_samples below 1, a calibration output of other classes than the refinement's, or an
                image that is smaller than the levels allow.
        """
        output: RefinementOutput = self.refinement(x, self.calibration_logits(x).softmax(1), num_samples, generator)
        return output

    @torch.no_grad()
    def calibration_logits(self, x: torch.Tensor) -> torch.Tensor:
        """The frozen calibration network's logits ``[B, C, *S]`` of an image ``[B, C_in, *S]``, in float32."""
        return full_precision(self.calibration(full_precision(x)))

    def predictive(self, x: torch.Tensor) -> RefinedDistribution:
        """The predictive distribution of an image ``[B, C_in, *S]``."""
        logits = self.calibration_logits(x)
        features = self.refinement.encode(x, logits.softmax(1))
        autocast = autocast_mode(logits.device)

        def decode(code: torch.Tensor) -> torch.Tensor:
            with autocast:
                return self.refinement.decode(features, code[:, None])[:, 0]

        return RefinedDistribution(*self.refinement.latent(features), decode, logits)
