# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import torch
from monai.transforms import (
    Compose,
    RandAffine,
    RandFlip,
    RandRotate90,
    RandScaleIntensity,
    RandShiftIntensity,
)
from torch import nn

from monai_stochseg.distributions.arguments import check_arguments, check_spatial_dims
from monai_stochseg.distributions.augmented import AugmentedDistribution
from monai_stochseg.distributions.images import check_image_axes, resolve_spatial_dims, run_network
from monai_stochseg.networks.contract import is_predictive


class TestTimeAugmentation(nn.Module):
    """
    Test-time augmentation (Wang et al. 2019, https://arxiv.org/abs/1807.07356): any trained network made a sampler. A
    sample is its answer to the image after a random change, changed back.

    Of a network that has ``predictive`` itself, such as one with dropout, a sample is a draw of it after a change.
    In windows of a large image a sample has one change, each window about its own centre.

    Args:
        network: maps images ``[B, C_in, *S]`` to logits ``[B, C, *S]``, or has ``predictive``.
        transform: MONAI's array transforms of one image, see
            :py:class:`monai_stochseg.distributions.AugmentedDistribution`. Default: :py:func:`augmentation_transform`.
        spatial_dims: 2 or 3, of the default transform. Default: that of the network's convolutions.

    Raises:
        ValueError: for other spatial_dims, or when the network's convolutions do not say them and there is no
            transform.

    Example::

        samples = TestTimeAugmentation(network).predictive(image).sample_logits(16).argmax(2)  # [B, 16, *S]
        inferer = PredictiveInferer(SlidingWindowInferer((96, 96, 96)))
        volume_samples = inferer(volume, TestTimeAugmentation(network)).sample_logits(16).argmax(2)
    """

    __test__ = False  # no test of pytest

    @check_arguments
    def __init__(self, network: nn.Module, transform: Compose | None = None, spatial_dims: int | None = None) -> None:
        super().__init__()
        if transform is None:
            transform = augmentation_transform(resolve_spatial_dims(spatial_dims, network, "network"))
        elif spatial_dims is not None:
            check_spatial_dims(spatial_dims)
        self.network = network
        self.transform = transform

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """What the network gives for an image ``[B, C_in, *S]``: it is trained as it is."""
        if torch.jit.is_scripting():  # which knows neither exceptions nor networks as arguments
            scripted: torch.Tensor = self.network(x)
            return scripted
        return run_network(self.network, x, "network")

    def predictive(self, x: torch.Tensor) -> AugmentedDistribution:
        """The predictive distribution of an image ``[B, C_in, *S]``; the network runs once for each sample."""
        check_image_axes(x, 0)
        return AugmentedDistribution(self._answer, x, self.transform)

    def _answer(self, x: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
        if not is_predictive(self.network):
            return run_network(self.network, x, "network")
        distribution = self.network.predictive(x)
        if generator is None:
            return distribution.mode_logits()
        sample = distribution.sample_logits(1, generator)[:, 0]
        if distribution.weights is not None:
            raise ValueError(
                f"network: samples of {type(self.network).__name__} carry weights, which differ from change to change."
            )
        return sample


@check_arguments
def augmentation_transform(
    spatial_dims: int,
    rotation: float = 0.17,
    scale: float = 0.1,
    intensity: float = 0.1,
) -> Compose:
    """
    Random changes of one image: a flip of each axis, a quarter turn in the plane of the first two axes, a small
    rotation and scaling, a small scaling and shift of the intensity.

    Args:
        spatial_dims: 2 or 3.
        rotation: largest angle of the small rotation about each axis, in radians.
        scale: largest relative change of size.
        intensity: largest relative change of the intensity, and largest shift, in units of the image.

    Raises:
        ValueError: for other spatial_dims, or an amount outside [0, 1).
    """
    check_spatial_dims(spatial_dims)
    for name, value in (("rotation", rotation), ("scale", scale), ("intensity", intensity)):
        if not 0 <= value < 1:
            raise ValueError(f"{name} must lie in [0, 1), got {value}.")
    angles = [rotation] if spatial_dims == 2 else [rotation] * 3
    return Compose(
        [
            *(RandFlip(prob=0.5, spatial_axis=axis) for axis in range(spatial_dims)),
            RandRotate90(prob=0.75, max_k=3, spatial_axes=(0, 1)),
            RandAffine(
                prob=1.0,
                rotate_range=angles,
                scale_range=[scale] * spatial_dims,
                mode="bilinear",
                padding_mode="border",
            ),
            RandScaleIntensity(factors=intensity, prob=1.0),
            RandShiftIntensity(offsets=intensity, prob=1.0),
        ]
    )
