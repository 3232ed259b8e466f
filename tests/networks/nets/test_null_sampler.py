# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from torch import nn

from monai_stochseg.distributions import DeterministicDistribution, IndependentDistribution, ThresholdDistribution
from monai_stochseg.networks.nets import DeterministicSampler, IndependentSampler, ThresholdSampler

IMAGE = torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("sampler", "distribution"),
    [
        (DeterministicSampler, DeterministicDistribution),
        (ThresholdSampler, ThresholdDistribution),
        (IndependentSampler, IndependentDistribution),
    ],
)
def test_forward_and_mode_are_the_network(sampler, distribution):
    network = nn.Conv2d(1, 3, 1)
    net = sampler(network)
    predictive = net.predictive(IMAGE)
    assert type(predictive) is distribution
    torch.testing.assert_close(net(IMAGE), network(IMAGE))
    torch.testing.assert_close(predictive.mode_logits(), network(IMAGE))


def test_order_of_the_classes():
    net = ThresholdSampler(nn.Conv2d(1, 3, 1), order=(2, 1, 0))
    assert net.predictive(IMAGE).order == [2, 1, 0]
    net.order = (0, 1)
    with pytest.raises(ValueError, match="order must name each class 0 to 2 once"):
        net.predictive(IMAGE)
