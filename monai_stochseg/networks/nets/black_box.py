# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os

import torch
from torch import nn

from monai_stochseg.distributions import full_precision
from monai_stochseg.distributions.arguments import check_arguments
from monai_stochseg.distributions.images import run_network

_ACTIVATIONS = ("softmax", "sigmoid", None)


class BlackBox(nn.Module):
    """
    Wraps a trained deterministic segmenter, whose output a :py:class:`BlackBoxCalibrationNetwork` calibrates, as in
    Calibrated Adversarial Refinement (Kassapis et al. 2021, https://arxiv.org/abs/2006.13144).

    It is frozen: its weights take no gradient, and it stays in evaluation mode, whatever ``train()`` says.

    Predictions that lie on disk need no wrapper: MONAI's ``ConcatItemsd(["image", "prediction"], "image")`` makes them
    channels of the image, which calibration and refinement then take.

    Args:
        network: maps images ``[B, C_in, *S]`` to one tensor ``[B, P, *S]``, such as a network of a MONAI bundle with
            its weights loaded; or the TorchScript file of one, as ``monai.bundle ckpt_export`` writes it.
        activation: how its output becomes probabilities: ``"softmax"`` over the channels, ``"sigmoid"`` of each, or
            None where they are probabilities already.
        with_image: the image's channels follow the probabilities, so that the calibration network can find what the
            black box does not show.

    Raises:
        ValueError: for an unknown activation, a file that is no TorchScript, or, when called, an output of another
            size than the image.
        TypeError: when called, for an output that is not one tensor.

    Example::

        calibration = nn.Sequential(BlackBox("model.ts"), BlackBoxCalibrationNetwork(2, in_channels=2, out_channels=2))
        # Train calibration by cross entropy, then refine it:
        net = CalibratedAdversarialRefinement(calibration, RefinementNetwork(2, in_channels=1, out_channels=2))
    """

    @check_arguments
    def __init__(
        self, network: nn.Module | str | os.PathLike, activation: str | None = "softmax", with_image: bool = False
    ) -> None:
        super().__init__()
        if activation not in _ACTIVATIONS:
            raise ValueError(f"activation must be one of {_ACTIVATIONS}, got {activation!r}.")
        self.activation = activation
        self.with_image = with_image
        self.network = network if isinstance(network, nn.Module) else _load(network)
        self.requires_grad_(False)
        self.train()

    def train(self, mode: bool = True) -> BlackBox:
        """Training or evaluation mode in name; the segmenter stays in evaluation mode."""
        super().train(mode)
        self.network.eval()
        return self

    @torch.no_grad()
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """
        Args:
            x: image ``[B, C_in, *S]``.

        Returns:
            probabilities ``[B, P, *S]``, with the image ``[B, P + C_in, *S]``, without a gradient.
        """
        x = full_precision(x)
        output = run_network(self.network, x, "network")
        if output.shape[2:] != x.shape[2:]:
            raise ValueError(
                f"network must return [B, P, *S] of the image's size, got {tuple(output.shape)} for {tuple(x.shape)}."
            )
        output = full_precision(output)
        if self.activation == "softmax":
            output = output.softmax(1)
        elif self.activation == "sigmoid":
            output = output.sigmoid()
        return torch.cat([output, x], 1) if self.with_image else output


def _load(path: str | os.PathLike) -> nn.Module:
    try:
        network: nn.Module = torch.jit.load(os.fspath(path), map_location="cpu")
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            f"network: {os.fspath(path)} is no TorchScript file: export the network by `python -m monai.bundle "
            "ckpt_export`, or give the network itself with its weights loaded."
        ) from error
    return network
