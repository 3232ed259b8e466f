# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch

from monai_stochseg.networks.nets import BilinearUNet
from monai_stochseg.networks.nets.bilinear_unet import BilinearEncoder


@pytest.mark.parametrize("shape", [(16, 16), (13, 7), (8, 8, 8), (5, 9, 6)])
@pytest.mark.parametrize(("out_channels", "expected"), [(3, 3), (None, 4)])
def test_any_size_keeps_its_shape(shape, out_channels, expected):
    net = BilinearUNet(len(shape), 2, out_channels, channels=(4, 6, 8))
    assert net(torch.randn(2, 2, *shape)).shape == (2, expected, *shape)


def test_encoder_gives_the_features_of_each_level():
    features = BilinearEncoder(2, 1, channels=(4, 6, 8))(torch.randn(1, 1, 10, 8))
    assert [tuple(f.shape) for f in features] == [(1, 4, 10, 8), (1, 6, 5, 4), (1, 8, 3, 2)]


def test_halving_is_bilinear_interpolation():
    x = torch.randn(1, 1, 8, 6)
    halved = torch.nn.functional.interpolate(x, scale_factor=0.5, mode="bilinear", align_corners=False)
    torch.testing.assert_close(BilinearEncoder(2, 1).down(x), halved)


def test_initial_weights_are_orthogonal_and_biases_small():
    net = BilinearUNet(2, 1, 2, channels=(4, 8))
    convolutions = [m for m in net.modules() if isinstance(m, torch.nn.Conv2d)]
    assert len(convolutions) == 3 * 3 + 1
    for conv in convolutions:
        weight = conv.weight.flatten(1)
        small = weight @ weight.T if len(weight) <= weight.shape[1] else weight.T @ weight
        torch.testing.assert_close(small, torch.eye(len(small)))
        assert conv.bias.abs().max() <= 2e-3


def test_the_paper_has_four_levels_of_three_convolutions_from_32_channels():
    net = BilinearUNet(2, 1, 2)
    assert len(net.encoder.blocks) == 4
    assert all(sum(isinstance(m, torch.nn.Conv2d) for m in block) == 3 for block in (*net.encoder.blocks, *net.blocks))
    assert net.encoder.blocks[0][0].out_channels == 32


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"spatial_dims": 1}, "spatial_dims must be 2 or 3, got 1"),
        ({"in_channels": 0}, "in_channels must be at least 1, got 0"),
        ({"out_channels": 0}, "out_channels must be at least 1, got 0"),
        ({"channels": ()}, r"channels must be one or more positive integers, got \(\)"),
        ({"channels": (4, 0)}, r"channels must be one or more positive integers, got \(4, 0\)"),
    ],
)
def test_rejects(arguments, message):
    with pytest.raises(ValueError, match=message):
        BilinearUNet(**{"spatial_dims": 2, "in_channels": 1, "out_channels": 2, **arguments})
