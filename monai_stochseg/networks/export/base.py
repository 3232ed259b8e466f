# SPDX-License-Identifier: Apache-2.0
"""What every exportable module promises, and what they share."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import nn

from monai_stochseg.distributions.arguments import check_at_least

__all__ = ["SampleExport", "standard_uniform"]


class SampleExport(nn.Module, ABC):
    """
    A network and the drawing of its samples as one function of image and noise, for TorchScript, ONNX and
    ``torch.export``: nothing in it is random, so that a run replays from its noise.

    The noise is one tensor ``[B, N, K]`` of independent standard normal numbers, whatever the method: K numbers for
    each of N samples, K by :py:meth:`noise_size`. All samples weigh the same. The network is in evaluation mode.

    All N samples are computed together: memory grows with ``N * C`` voxels.

    Args:
        network: the network whose samples are drawn.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.eval()

    @abstractmethod
    def noise_size(self, spatial_size: Sequence[int]) -> int:
        """
        K, how many numbers a sample takes.

        Args:
            spatial_size: that of the logits, which is that of the image for most networks.
        """

    def draw_noise(
        self, image: torch.Tensor, num_samples: int, generator: torch.Generator | None = None
    ) -> torch.Tensor:
        """
        The noise of some samples of an image.

        Args:
            image: ``[B, C_in, *S]``.
            num_samples: N.
            generator: source of the noise; the default is PyTorch's global one.

        Returns:
            ``[B, N, K]``, standard normal.
        """
        check_at_least(1, num_samples=num_samples)
        with torch.no_grad():
            shape = (len(image), num_samples, self.noise_size(self.logits_size(image)))
        device = image.device if generator is None else generator.device
        return torch.randn(shape, generator=generator, device=device).to(image.device)

    def logits_size(self, image: torch.Tensor) -> Sequence[int]:
        """The spatial size of the logits of an image, where :py:meth:`noise_size` depends on it; else the image's."""
        return image.shape[2:]

    @property
    def noise_formula(self) -> str:
        """K as text, with ``voxels`` for the number of the logits' voxels where it depends on it."""
        at_1, at_2 = self.noise_size([1]), self.noise_size([2])
        per_voxel, fixed = at_2 - at_1, 2 * at_1 - at_2
        if per_voxel == 0:
            return str(fixed)
        return f"{per_voxel} * voxels" if fixed == 0 else f"{fixed} + {per_voxel} * voxels"

    @abstractmethod
    def sample_logits(self, image: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """
        The logits of the samples.

        Args:
            image: ``[B, C_in, *S]``.
            noise: ``[B, N, K]``, standard normal.

        Returns:
            ``[B, N, C, *S]``.
        """

    def forward(self, image: torch.Tensor, noise: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """
        Args:
            image: ``[B, C_in, *S]``.
            noise: ``[B, N, K]``, standard normal.

        Returns:
            ``probabilities`` ``[B, C, *S]``, the mean softmax over the samples; ``samples`` ``[B, N, *S]``, uint8, the
            label map of each; ``entropy`` ``[B, 1, *S]`` of the probabilities, in nats.

        Raises:
            ValueError: when the noise has other axes than ``[B, N, K]``, or another B or K than the image asks for.
        """
        compiled = torch.jit.is_tracing() or torch.compiler.is_compiling()
        if not compiled and (noise.dim() != 3 or not noise.numel() or len(noise) != len(image)):
            raise ValueError(
                f"noise must be [B, N, K] with the B of image {tuple(image.shape)}, got {tuple(noise.shape)}."
            )
        logits = self.sample_logits(image, noise)
        if not compiled and noise.shape[2] != (size := self.noise_size(logits.shape[3:])):
            raise ValueError(f"noise must have K={size} numbers for each sample, got {tuple(noise.shape)}.")
        probabilities = logits.softmax(2).mean(1)
        # not torch.special.entr, which ONNX does not have
        log = probabilities.clamp(min=torch.finfo(probabilities.dtype).tiny).log()
        return probabilities, logits.argmax(2).to(torch.uint8), -(probabilities * log).sum(1, keepdim=True)


def standard_uniform(noise: torch.Tensor) -> torch.Tensor:
    """Standard normal numbers as uniform ones in [0, 1], by their distribution function."""
    return 0.5 * (1 + torch.erf(noise / math.sqrt(2)))
