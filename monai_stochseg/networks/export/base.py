# SPDX-License-Identifier: Apache-2.0
"""What every exportable module promises, and what they share."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import nn

from monai_stochseg.distributions.arguments import check_arguments, check_at_least
from monai_stochseg.distributions.images import spatial_dims_of

__all__ = ["SampleExport", "standard_uniform"]


class SampleExport(nn.Module, ABC):
    """
    A network and the drawing of its samples as one function of image and noise, for TorchScript, ONNX and
    ``torch.export``: nothing in it is random, so that a run replays from its noise.

    The noise is one tensor ``[B, N, K]`` of independent standard normal numbers, whatever the method: K numbers for
    each of N samples, some of which are the sample's and some each voxel's, see :py:meth:`noise_size`. All samples
    weigh the same. The network is in evaluation mode.

    All N samples are computed together: memory grows with ``N * C`` voxels.

    Args:
        network: the network whose samples are drawn.
        fixed: how many numbers a sample takes.
        per_voxel: how many more for each voxel of the logits.
    """

    #: Whether ``torch.export``, and so ONNX, can leave all sizes of it open; TorchScript can.
    has_program = True

    def __init__(self, network: nn.Module, fixed: int = 0, per_voxel: int = 0) -> None:
        super().__init__()
        self.network = network
        self.fixed = fixed
        self.per_voxel = per_voxel
        self.spatial_dims = getattr(network, "spatial_dims", 0) or spatial_dims_of(network)  # 0: not known
        self.eval()

    @check_arguments
    def noise_size(self, spatial_size: Sequence[int]) -> int:
        """
        K, how many numbers a sample takes.

        Args:
            spatial_size: that of the logits, which is that of the image for most networks.

        Raises:
            ValueError: when it has another number of axes than the network's images, or is not positive.
        """
        if len(spatial_size) not in self._axes or min(spatial_size) < 1:
            raise ValueError(
                f"spatial_size must be {self._axes_text} positive numbers, one an axis, got {tuple(spatial_size)}."
            )
        return self.fixed + self.per_voxel * math.prod(spatial_size)

    @check_arguments
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

        Raises:
            ValueError: when the image has other axes, one of them is empty, or num_samples is below 1.
        """
        self._check_image(image)
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
        if self.per_voxel == 0:
            return str(self.fixed)
        return f"{self.per_voxel} * voxels" if self.fixed == 0 else f"{self.fixed} + {self.per_voxel} * voxels"

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

    @check_arguments
    def forward(self, image: torch.Tensor, noise: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """
        Args:
            image: ``[B, C_in, *S]``.
            noise: ``[B, N, K]``, standard normal.

        Returns:
            ``probabilities`` ``[B, C, *S]``, the mean softmax over the samples; ``samples`` ``[B, N, *S]``, uint8, the
            label map of each; ``entropy`` ``[B, 1, *S]`` of the probabilities, in nats.

        Raises:
            TypeError: when either is no tensor of real numbers.
            ValueError: when the image has other axes, or the noise has other axes than ``[B, N, K]``, or another B or
                K than the image asks for.
        """
        if not _compiled():
            self._check_image(image)
            if noise.dim() != 3 or not noise.numel() or len(noise) != len(image):
                raise ValueError(
                    f"noise must be [B, N, K] with the B of image {tuple(image.shape)}, got {tuple(noise.shape)}."
                )
            if type(self).logits_size is SampleExport.logits_size:
                self.check_noise(noise, image.shape[2:])
        logits = self.sample_logits(image, noise)
        probabilities = logits.softmax(2).mean(1)
        # not torch.special.entr, which ONNX does not have
        log = probabilities.clamp(min=torch.finfo(probabilities.dtype).tiny).log()
        return probabilities, logits.argmax(2).to(torch.uint8), -(probabilities * log).sum(1, keepdim=True)

    def check_noise(self, noise: torch.Tensor, spatial_size: Sequence[int]) -> None:
        """
        Check K, which for unpadded convolutions is known once the network has run.

        Args:
            noise: ``[B, N, K]``.
            spatial_size: that of the logits.

        Raises:
            ValueError: when there are more or fewer numbers.
        """
        if not _compiled() and noise.shape[2] != (size := self.noise_size(spatial_size)):
            raise ValueError(
                f"noise must have K={size} numbers for each sample of this image, whose logits have the size "
                f"{tuple(spatial_size)}, got {tuple(noise.shape)}."
            )

    def _check_image(self, image: torch.Tensor) -> None:
        if image.dim() - 2 not in self._axes or not image.numel():
            raise ValueError(
                f"image must be [B, C_in, *S] with {self._axes_text} spatial axes, none of its axes empty, got "
                f"{tuple(image.shape)}."
            )

    @property
    def _axes(self) -> tuple[int, ...]:
        return (self.spatial_dims,) if self.spatial_dims else (2, 3)

    @property
    def _axes_text(self) -> str:
        return " or ".join(map(str, self._axes))


def _compiled() -> bool:
    """Whether shapes are symbols."""
    return torch.jit.is_tracing() or torch.compiler.is_compiling()


def standard_uniform(noise: torch.Tensor) -> torch.Tensor:
    """Standard normal numbers as uniform ones in [0, 1], by their distribution function."""
    return 0.5 * (1 + torch.erf(noise / math.sqrt(2)))
