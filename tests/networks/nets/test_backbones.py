# SPDX-License-Identifier: Apache-2.0
"""What all networks ask of the module that they stand on."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from monai.networks.nets import UNet
from torch import nn

from monai_stochseg.networks.blocks import LayerFeatures
from monai_stochseg.networks.nets import (
    BlackBox,
    CalibratedAdversarialRefinement,
    DeterministicSampler,
    Ensemble,
    MHeads,
    MixtureOfStochasticExperts,
    MonteCarloDropout,
    ProbabilisticUNet,
    RefinementNetwork,
    StochasticSegmentationNetwork,
)


class Several(nn.Module):
    """A network with deep supervision: a list of outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 1)
        self.dropout = nn.Dropout()

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        return [self.conv(x)]


ON_SEVERAL: dict[str, tuple[Callable[[nn.Module], nn.Module], str]] = {
    "black_box": (BlackBox, "network"),
    "car": (lambda m: CalibratedAdversarialRefinement(m, RefinementNetwork(2, 1, 2, channels=(4,))), "calibration"),
    "deterministic": (DeterministicSampler, "network"),
    "dropout": (MonteCarloDropout, "network"),
    "ensemble": (lambda m: Ensemble([m]), "members"),
    "layer_features": (lambda m: LayerFeatures(m, "conv"), "network"),
    "mheads": (lambda m: MHeads(m, 2, 2), "backbone"),
    "mose": (lambda m: MixtureOfStochasticExperts(m, 2, 2, 2), "backbone"),
    "probunet": (lambda m: ProbabilisticUNet(2, 1, 2, (4,), core=m, feature_channels=2), "core"),
    "ssn": (lambda m: StochasticSegmentationNetwork(m, 2, 2), "backbone"),
}


@pytest.mark.parametrize("name", ON_SEVERAL)
def test_a_network_of_several_outputs_is_refused(name: str) -> None:
    make, argument = ON_SEVERAL[name]
    network, image = make(Several()), torch.zeros(1, 1, 4, 4)
    run = network.predictive if name in ("car", "probunet") else network
    with pytest.raises(TypeError, match=f"{argument} must return one .*, got list"):
        run(image)


HEADS = {
    "mheads": lambda m, **k: MHeads(m, 4, 2, **k),
    "mose": lambda m, **k: MixtureOfStochasticExperts(m, 4, 4, 2, **k),
    "ssn": lambda m, **k: StochasticSegmentationNetwork(m, 4, 2, **k),
}


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize("name", HEADS)
def test_spatial_dims_are_those_of_the_backbone(name: str, spatial_dims: int) -> None:
    backbone = UNet(spatial_dims, 1, 4, (4, 8), (2,))
    network, image = HEADS[name](backbone), torch.zeros(1, 1, *[8] * spatial_dims)
    assert network.predictive(image).mode_logits().shape == (1, 2, *[8] * spatial_dims)
    with pytest.raises(ValueError, match=rf"x must be an image \[B, C, \*S\] with {spatial_dims} spatial axes"):
        network(torch.zeros(1, 1, *[8] * (5 - spatial_dims)))


@pytest.mark.parametrize("name", HEADS)
def test_spatial_dims_that_nothing_says_are_asked_for(name: str) -> None:
    with pytest.raises(ValueError, match="spatial_dims must be 2 or 3: the convolutions of backbone do not say"):
        HEADS[name](nn.Identity())
    HEADS[name](nn.Identity(), spatial_dims=2)
