# SPDX-License-Identifier: Apache-2.0
"""Convolutions with random weights, of which a network learns the distribution."""

from __future__ import annotations

import math

import torch
from monai.networks.layers.convutils import same_padding
from monai.networks.layers.factories import Conv
from torch import nn
from torch.nn import functional as F

from monai_stochseg.distributions import Gaussian, full_precision
from monai_stochseg.distributions.arguments import check_arguments, check_at_least, check_spatial_dims
from monai_stochseg.distributions.images import check_image_axes
from monai_stochseg.distributions.noise import draw_normal

__all__ = ["LOG_STD_BOUNDS", "VariationalConv"]

#: Deviations stay between exp(-10) and exp(1), the upper end as in the code of Hu et al. 2019.
LOG_STD_BOUNDS = (-10.0, 1.0)
_LEAST_VARIANCE = 1e-16  # the root's slope is finite where all inputs are 0


class VariationalConv(nn.Module):
    """
    A convolution with variational dropout (Kingma et al. 2015, https://arxiv.org/abs/1506.02557; additive form of
    Molchanov et al. 2017, https://arxiv.org/abs/1701.05369, section 4.1): each weight w is a normal with a mean and a
    deviation of its own, ``w = mean + std * e``, which is multiplicative noise of variance
    ``alpha = std^2 / mean^2``. The bias is a number. All is computed in float32 under autocast too.

    Training draws what the convolution gives and not the weights (local reparameterisation): each output is a normal,
    whose mean is the convolution with the means and whose variance that of the squares, ``std^2 * x^2``.
    :py:meth:`draw` gives a draw of the weights themselves, which all places share.

    Args:
        spatial_dims: 2 or 3.
        in_channels: number of channels F of the features.
        out_channels: number of channels of what it gives.
        kernel_size: odd, the size stays.
        log_std: log of the deviations at the start.

    Raises:
        ValueError: for other spatial_dims, numbers that are not positive, an even kernel_size, or a log_std outside
            ``LOG_STD_BOUNDS``.

    Example::

        conv = VariationalConv(spatial_dims=2, in_channels=8, out_channels=8)
        noisy = conv(features)  # a training step
        weight = conv.draw()
        one, two = conv.given(features, weight), conv.given(others, weight)  # the same weights
    """

    @check_arguments
    def __init__(
        self, spatial_dims: int, in_channels: int, out_channels: int, kernel_size: int = 3, log_std: float = -5.0
    ) -> None:
        super().__init__()
        check_spatial_dims(spatial_dims)
        check_at_least(1, in_channels=in_channels, out_channels=out_channels, kernel_size=kernel_size)
        if kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd, for the size to stay, got {kernel_size}.")
        low, high = LOG_STD_BOUNDS
        if not low < log_std < high:
            raise ValueError(f"log_std must lie between {low} and {high}, got {log_std}.")
        self.spatial_dims = spatial_dims
        self.conv = Conv[Conv.CONV, spatial_dims](
            in_channels, out_channels, kernel_size, padding=same_padding(kernel_size)
        )
        share = (log_std - low) / (high - low)
        self.raw_log_std = nn.Parameter(torch.full_like(self.conv.weight, math.log(share / (1 - share))))

    @property
    def weight(self) -> Gaussian:
        """Mean and log-deviation of the weights, ``[out_channels, in_channels, *kernel]``."""
        low, high = LOG_STD_BOUNDS
        return Gaussian(self.conv.weight, low + (high - low) * torch.sigmoid(self.raw_log_std))

    @check_arguments
    def forward(self, x: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
        """
        One draw by local reparameterisation, with noise of its own at each place of each item.

        Args:
            x: features ``[B, in_channels, *S]``.
            generator: source of the noise; the default is PyTorch's global one.

        Returns:
            ``[B, out_channels, *S]``.
        """
        mean = self.given(x)
        with torch.autocast(x.device.type, enabled=False):
            variance = self._convolve(full_precision(x).square(), torch.exp(2 * self.weight.log_std), None)
            return mean + variance.clamp(min=_LEAST_VARIANCE).sqrt() * draw_normal(tuple(mean.shape), mean, generator)

    @check_arguments
    def draw(self, generator: torch.Generator | None = None) -> torch.Tensor:
        """One draw of the weights, ``[out_channels, in_channels, *kernel]``."""
        mean, log_std = self.weight
        return mean + log_std.exp() * draw_normal(tuple(mean.shape), mean, generator)

    @check_arguments
    def given(self, x: torch.Tensor, weight: torch.Tensor | None = None) -> torch.Tensor:
        """
        The convolution with given weights.

        Args:
            x: features ``[B, in_channels, *S]``.
            weight: such as :py:meth:`draw` gives. Default: the means.

        Returns:
            ``[B, out_channels, *S]``.

        Raises:
            ValueError: when the features or the weights do not fit.
        """
        check_image_axes(x, self.spatial_dims)
        mean = self.conv.weight
        if x.shape[1] != mean.shape[1]:
            raise ValueError(f"x must have {mean.shape[1]} channels, got {tuple(x.shape)}.")
        if weight is not None and weight.shape != mean.shape:
            raise ValueError(f"weight must be {tuple(mean.shape)}, got {tuple(weight.shape)}.")
        with torch.autocast(x.device.type, enabled=False):
            return self._convolve(full_precision(x), mean if weight is None else weight, self.conv.bias)

    def _convolve(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        convolve = F.conv2d if self.spatial_dims == 2 else F.conv3d
        result: torch.Tensor = convolve(x, weight, bias, padding=self.conv.padding)
        return result
