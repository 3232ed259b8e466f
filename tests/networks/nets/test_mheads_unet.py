# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from torch import nn

from monai_stochseg.networks.nets import MHeads, MHeadsUNet

IMAGE = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def test_heads_read_the_features_of_one_backbone():
    net = MHeadsUNet(2, 1, 2, channels=(4, 8), num_heads=3)
    features = net.backbone(IMAGE)
    torch.testing.assert_close(net(IMAGE), torch.stack([head(features) for head in net.heads], dim=1))
    assert all(sum(isinstance(layer, nn.Conv2d) for layer in head) == 3 for head in net.heads)


def test_one_head_is_trained_without_the_others():
    net = MHeadsUNet(2, 1, 2, channels=(4, 8), num_heads=3)
    net(IMAGE)[:, 1].sum().backward()
    assert [head[-1].weight.grad is not None and bool(head[-1].weight.grad.any()) for head in net.heads] == [0, 1, 0]
    assert all(p.grad is not None for p in net.backbone.parameters())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MHeadsUNet(2, 1, 2, num_heads=0), "num_heads must be at least 1, got 0"),
        (lambda: MHeadsUNet(2, 1, 1), "must be at least 2, got 1"),
        (lambda: MHeads(nn.Identity(), 1, 2, spatial_dims=4), "spatial_dims must be 2 or 3, got 4"),
        (
            lambda: MHeads(nn.Identity(), 3, 2, spatial_dims=2)(IMAGE),
            "the backbone gave 1 channels, feature_channels=3",
        ),
    ],
)
def test_rejects(make, message):
    with pytest.raises(ValueError, match=message):
        make()
