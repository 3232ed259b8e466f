# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import torch
from torch import nn

from monai_stochseg.distributions import RefinedDistribution, RefinementOutput, autocast_mode, full_precision
from monai_stochseg.distributions.arguments import check_arguments
from monai_stochseg.distributions.images import check_image_axes, run_network
from monai_stochseg.networks.nets.refinement_network import RefinementNetwork


class CalibratedAdversarialRefinement(nn.Module):
    """
    Calibrated Adversarial Refinement (Kassapis et al. 2021, https://arxiv.org/abs/2006.13144): a trained calibration
    network gives the probability of each class in each voxel, and a refinement network draws coherent label maps with
    this mean.

    The calibration network is frozen: its weights take no gradient, and it stays in evaluation mode, whatever
    ``train()`` says, so that neither dropout nor batch norm move the target.

    Args:
        calibration: any module that maps images ``[B, C_in, *S]`` to logits ``[B, C, *S]``, such as
            :py:class:`CalibrationNetwork` or a network of MONAI. It is frozen in place.
        refinement: the refinement network.

    Raises:
        ValueError: when the ``out_channels`` of the calibration network and of the refinement differ.

    Example::

        net = CalibratedAdversarialRefinement(calibration, RefinementNetwork(2, in_channels=1, out_channels=2))
        samples = net.predictive(image).sample_logits(16).argmax(2)  # [B, 16, *S]
        uncertainty = net.predictive(image).entropy()  # [B, 1, *S]
    """

    @check_arguments
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

    @check_arguments
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
        check_image_axes(x, self.refinement.spatial_dims)
        return full_precision(run_network(self.calibration, full_precision(x), "calibration"))

    def predictive(self, x: torch.Tensor) -> RefinedDistribution:
        """The predictive distribution of an image ``[B, C_in, *S]``."""
        logits = self.calibration_logits(x)
        features = self.refinement.encode(x, logits.softmax(1))
        autocast = autocast_mode(logits.device)

        def decode(code: torch.Tensor) -> torch.Tensor:
            with autocast:
                return self.refinement.decode(features, code[:, None])[:, 0]

        return RefinedDistribution(*self.refinement.latent(features), decode, logits)
