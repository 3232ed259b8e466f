# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from monai_stochseg.distributions import FlowDistribution, FlowOutput, autocast_mode, full_precision
from monai_stochseg.distributions.arguments import (
    check_arguments,
    check_at_least,
    check_num_classes,
    check_option,
)
from monai_stochseg.distributions.flow import FIELDS, SOLVERS
from monai_stochseg.distributions.images import check_image_axes, resolve_spatial_dims, run_network
from monai_stochseg.networks.blocks.rater_label import draw_label, label_channels
from monai_stochseg.networks.blocks.time_unet import TimeUNet


class FlowSSN(nn.Module):
    """
    Flow Stochastic Segmentation Network (Ribeiro et al. 2025, https://arxiv.org/abs/2507.18838), the continuous form:
    any network gives the mean of a normal of unit deviation, and a light flow carries its draws to label maps.

    A path joins a draw u and a rater's one-hot label y, ``y_t = (1 - t) u + t y``. From y_t and t alone the flow
    predicts the categorical of y in each voxel; its loss is :py:class:`monai_stochseg.losses.FlowMatchingLoss`. The
    base runs once for an image, the flow once for each step of each sample. In windows of a large image a sample has
    one noise field for the whole.

    Args:
        base: any module that maps images ``[B, C_in, *S]`` to the mean ``[B, out_channels, *S]``.
        out_channels: number of classes C, the background included.
        flow: maps a place ``[B, C, *S]`` and times ``[B]`` to logits ``[B, C, *S]``. Default: a U-Net of
            ``flow_channels``.
        flow_channels: number of channels of each resolution of the default flow.
        num_steps: steps of a sample; the authors have 10 in validation and 50 in their table.
        field: see :py:func:`monai_stochseg.distributions.integrate_flow`.
        solver: see :py:func:`monai_stochseg.distributions.integrate_flow`.
        spatial_dims: 2 or 3. Default: that of the base's convolutions.

    Raises:
        ValueError: for fewer than 2 classes, num_steps below 1, flow_channels that are not positive, another field or
            solver, or when the base's convolutions do not say the spatial_dims.

    Example::

        base = UNet(spatial_dims=2, in_channels=1, out_channels=2, channels=(16, 32, 64), strides=(2, 2))
        net = FlowSSN(base, out_channels=2)
        loss = FlowMatchingLoss()(net(image, label), label)  # label [B, raters, *S]
        samples = net.predictive(image).sample_logits(16).argmax(2)  # [B, 16, *S]
    """

    @check_arguments
    def __init__(
        self,
        base: nn.Module,
        out_channels: int,
        flow: nn.Module | None = None,
        flow_channels: Sequence[int] = (16, 16, 16),
        num_steps: int = 10,
        field: str = "start",
        solver: str = "euler",
        spatial_dims: int | None = None,
    ) -> None:
        super().__init__()
        check_num_classes(out_channels=out_channels)
        check_at_least(1, num_steps=num_steps)
        if len(flow_channels) == 0 or min(flow_channels) < 1:
            raise ValueError(f"flow_channels must be one or more positive integers, got {tuple(flow_channels)}.")
        self.spatial_dims = resolve_spatial_dims(spatial_dims, base, "base")
        self.out_channels = out_channels
        self.base = base
        self.flow = TimeUNet(self.spatial_dims, out_channels, flow_channels) if flow is None else flow
        self.num_steps = num_steps
        self.field = check_option("field", field, FIELDS)
        self.solver = check_option("solver", solver, SOLVERS)

    @property
    def noise_channels(self) -> int:
        """Number of channels of the noise, which lies on the image's grid."""
        return self.out_channels

    @check_arguments
    def forward(
        self,
        x: torch.Tensor,
        y: torch.Tensor | None = None,
        rater_weights: torch.Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> FlowOutput:
        """
        A training step: of several raters one is drawn per item, and a place on the path to its label.

        Args:
            x: image ``[B, C_in, *S]``.
            y: integer labels of the raters, ``[B, raters, *S]``. A void voxel goes to 0, which is no class.
            rater_weights: ``[B, raters]``, non-negative, each row with a positive sum; a missing rater has weight 0.
            generator: source of the drawn raters, noise and times; the default is PyTorch's global one.

        Raises:
            ValueError: without a label, or when shapes do not fit.
        """
        check_image_axes(x, self.spatial_dims)
        label, rater = draw_label(x, y, rater_weights, generator)
        mean = self.mean(x)
        device = mean.device if generator is None else generator.device
        noise = torch.randn(mean.shape, generator=generator, device=device, dtype=mean.dtype).to(mean.device)
        t = torch.rand(len(mean), generator=generator, device=device, dtype=mean.dtype).to(mean.device)
        share = t.reshape(-1, *[1] * (mean.dim() - 1))
        place = (1 - share) * (mean + noise) + share * label_channels(label, self.out_channels, mean)
        return FlowOutput(full_precision(self.flow(place, t)), rater)

    def mean(self, x: torch.Tensor) -> torch.Tensor:
        """The mean of the start ``[B, C, *S]`` of an image ``[B, C_in, *S]``."""
        check_image_axes(x, self.spatial_dims)
        mean = full_precision(run_network(self.base, full_precision(x), "base"))
        if mean.shape != (len(x), self.out_channels, *x.shape[2:]):
            raise ValueError(
                f"base must return [B, out_channels, *S] with out_channels={self.out_channels} for x of "
                f"{tuple(x.shape)}, got {tuple(mean.shape)}."
            )
        return mean

    def predictive(self, x: torch.Tensor) -> FlowDistribution:
        """The predictive distribution of an image ``[B, C_in, *S]``."""
        mean, autocast = self.mean(x), autocast_mode(x.device)

        def categorical(place: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            with autocast:
                logits = self.flow(place, t)
            return full_precision(logits).softmax(1)

        return FlowDistribution(mean, categorical, self.num_steps, self.field, self.solver)
