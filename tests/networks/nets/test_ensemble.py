# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from monai.networks.nets import SegResNet, UNet
from torch import nn

from monai_stochseg.networks.nets import Ensemble, UNetEnsemble

IMAGE = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def test_members_may_be_any_networks():
    members = [
        UNet(2, 1, 2, channels=(4, 8), strides=(2,)),
        SegResNet(2, 8, 1, 2, blocks_down=(1, 1), blocks_up=(1,)),
        nn.Conv2d(1, 2, 1),
    ]
    net = Ensemble(members)
    expected = torch.stack([member(IMAGE) for member in members], dim=1)
    torch.testing.assert_close(net(IMAGE), expected)
    samples = net.predictive(IMAGE).sample_logits(40)
    matches = (samples[:, :, None] == expected[:, None]).flatten(3).all(3)
    assert (matches.sum(2) == 1).all()  # each sample is one member's answer
    assert matches.any(1).all()  # each member answers


def test_members_start_from_other_weights():
    one, two = UNetEnsemble(2, 1, 2, channels=(4, 8), num_members=2)(IMAGE).unbind(1)
    assert not torch.allclose(one, two)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Ensemble([]), "one or more networks, each another, got 0"),
        (lambda: Ensemble([nn.Identity()] * 2), "each another, got 2"),
        (lambda: UNetEnsemble(2, 1, 2, num_members=0), "num_members must be at least 1, got 0"),
        (lambda: UNetEnsemble(4, 1, 2), "spatial_dims must be 2 or 3, got 4"),
    ],
)
def test_rejects(make, message):
    with pytest.raises(ValueError, match=message):
        make()
