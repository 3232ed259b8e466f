# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import torch
from torch import nn

from monai_stochseg.distributions import LowRankNormal, full_precision
from monai_stochseg.distributions.arguments import check_arguments, check_at_least, check_num_classes, check_positive
from monai_stochseg.distributions.images import check_features, check_image_axes, resolve_spatial_dims
from monai_stochseg.distributions.masked import check_mask
from monai_stochseg.networks.blocks.pointwise_conv import pointwise_conv

# Variances of exp(-10) to exp(10): wider than any logit needs, and far from the overflow of float16.
_LOG_DIAG_BOUND = 10.0


class StochasticSegmentationNetwork(nn.Module):
    """
    Stochastic Segmentation Network (Monteiro et al. 2020, https://arxiv.org/abs/2006.06015): a head on any backbone
    that gives the logits a normal distribution with covariance P P^T + D of low rank.

    The head is ReLU and three 1x1 convolutions for the mean, the log-diagonal and the factor. The output is ONE tensor
    ``[B, C * (2 + R), *S]``, so that MONAI's sliding window stitches the distribution's parameters;
    :py:meth:`distribution` reads it. The log-diagonal is bounded smoothly to [log eps, 10].

    Args:
        backbone: any module that maps images ``[B, C_in, *S]`` to features ``[B, feature_channels, *S]``.
        feature_channels: number of channels of the backbone's output.
        out_channels: number of classes C, the background included.
        rank: number of columns R of the factor P.
        diagonal: covariance D alone, the paper's baseline. The factor's channels are zeros, so that the loss and the
            inferers stay the same.
        spatial_dims: 2 or 3. Default: that of the backbone's convolutions.
        eps: lower bound of the diagonal.
        covariance_init: scale of the initial weights of the factor and of the log-diagonal, and initial value of the
            diagonal. The small default keeps the covariance from running away before the mean has learned; None is
            PyTorch's initialisation with a diagonal near 1, the published one.
        temperature: scale of a sample's deviation from the mean, of the predictive distribution alone and not of the
            loss, as the two that follow; see :py:meth:`monai_stochseg.distributions.LowRankNormal.scaled`.
        class_scale: scale of each class's deviation, C values. Default: 1.
        rank_scale: scale of each column of the factor, R values. Default: 1.

    Raises:
        ValueError: for rank below 1, fewer than 2 classes, other spatial_dims, eps or covariance_init not positive, or
            a scale of another length.

    Example::

        backbone = UNet(spatial_dims=3, in_channels=4, out_channels=16, channels=(16, 32, 64), strides=(2, 2))
        net = StochasticSegmentationNetwork(backbone, feature_channels=16, out_channels=4)
        samples = net.predictive(image).sample_logits(8).argmax(2)  # [B, 8, *S]
    """

    @check_arguments
    def __init__(
        self,
        backbone: nn.Module,
        feature_channels: int,
        out_channels: int,
        rank: int = 10,
        diagonal: bool = False,
        spatial_dims: int | None = None,
        eps: float = 1e-5,
        covariance_init: float | None = 0.1,
        temperature: float = 1.0,
        class_scale: Sequence[float] | None = None,
        rank_scale: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        if rank < 1:
            raise ValueError(f"rank must be at least 1, got {rank}; for a diagonal covariance set diagonal=True.")
        check_num_classes(out_channels=out_channels)
        check_at_least(1, feature_channels=feature_channels)
        check_positive(eps=eps, covariance_init=1.0 if covariance_init is None else covariance_init)
        self.spatial_dims = resolve_spatial_dims(spatial_dims, backbone, "backbone")
        self.backbone = backbone
        self.feature_channels = feature_channels
        self.out_channels = out_channels
        self.rank = rank
        self.diagonal = diagonal
        self.eps = eps
        self.log_eps = math.log(eps)
        self.temperature = temperature
        self.class_scale = _scale("class_scale", class_scale, out_channels)
        self.rank_scale = _scale("rank_scale", rank_scale, rank)
        self.log_diag_bound = _LOG_DIAG_BOUND
        head = partial(pointwise_conv, self.spatial_dims, feature_channels)
        self.mean = head(out_channels)
        self.log_diag = head(out_channels)
        self.cov_factor = nn.Identity() if diagonal else head(rank * out_channels)
        if covariance_init is not None:
            self._shrink_covariance(covariance_init)

    def _shrink_covariance(self, scale: float) -> None:
        with torch.no_grad():
            for parameter in [*self.log_diag.parameters(), *self.cov_factor.parameters()]:
                parameter.mul_(scale if parameter.dim() > 1 else 0)
            *_, bias = self.log_diag.parameters()
            bias.fill_(math.log(scale))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """
        Args:
            x: image ``[B, C_in, *S]``.

        Returns:
            mean, log-diagonal and factor, ``[B, C * (2 + R), *S]``.

        Raises:
            TypeError: when the backbone gives several outputs.
            ValueError: when the image, or what the backbone gives for it, has other axes or channels.
        """
        check_image_axes(x, self.spatial_dims)
        features = self.backbone(x)
        check_features(features, x, self.feature_channels, "backbone")
        if torch.jit.is_scripting():
            return self._head(features)
        # In half precision the head would round the logits of all voxels, and their sum shows it.
        with torch.autocast(features.device.type, enabled=False):
            return self._head(full_precision(features))

    def _head(self, features: torch.Tensor) -> torch.Tensor:
        features = torch.relu(features)
        mean = self.mean(features)
        raw = self.log_diag(features)
        bounded = self.log_diag_bound * torch.tanh(raw / self.log_diag_bound)
        log_diag = torch.logaddexp(bounded, torch.full_like(bounded, self.log_eps))
        if self.diagonal:
            factor = torch.zeros_like(mean).repeat_interleave(self.rank, dim=1)
        else:
            factor = self.cov_factor(features)
        return torch.cat([mean, log_diag, factor], dim=1)

    @check_arguments
    def distribution(self, parameters: torch.Tensor, mask: torch.Tensor | None = None) -> LowRankNormal:
        """
        Args:
            parameters: output of :py:meth:`forward`, whole or stitched from windows, ``[B, C * (2 + R), *S]``.
            mask: region ``[B, 1, *S]`` outside which samples are background.
        """
        normal = LowRankNormal.from_parameters(parameters, self.out_channels, self.rank, mask=mask, eps=self.eps)
        return normal.scaled(self.temperature, self.class_scale, self.rank_scale)

    @check_arguments
    def predictive(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> LowRankNormal:
        """The predictive distribution of an image ``[B, C_in, *S]``."""
        parameters = self(x)
        if mask is not None:
            check_mask(mask, parameters, "the parameters of x")
        return self.distribution(parameters, mask=mask)


def _scale(name: str, values: Sequence[float] | None, length: int) -> list[float] | None:
    if values is None:
        return None
    if len(values) != length:
        raise ValueError(f"{name} must hold {length} values, got {len(values)}.")
    return [float(value) for value in values]
