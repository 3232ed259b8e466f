# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch

from monai_stochseg.networks.nets import BilinearUNet
from monai_stochseg.networks.nets.bilinear_unet import BilinearEncoder, halve


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
    torch.testing.assert_close(halve(x), halved)


@pytest.mark.parametrize(("shape", "norm", "dropout"), [((9, 6), None, 0.0), ((5, 6, 8), "BATCH", 0.5)])
def test_torchscript(shape, norm, dropout):
    net = BilinearUNet(len(shape), 1, 2, channels=(4, 6, 8), norm=norm, dropout=dropout).eval()
    image = torch.randn(2, 1, *shape)
    torch.testing.assert_close(torch.jit.script(net)(image), net(image))


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


@pytest.mark.parametrize("shape", [(1, 1), (8, 8), (20, 9), (4, 5, 3)])
@pytest.mark.parametrize("norm", [None, "BATCH"])
def test_the_shape_of_phiseg_takes_small_images(shape, norm):
    net = BilinearUNet(len(shape), 1, 2, channels=(2, 4, 6, 8, 8, 8, 8), norm=norm)
    assert net(torch.randn(2, 1, *shape)).shape == (2, 2, *shape)


@pytest.mark.parametrize(
    ("norm", "layer"),
    [
        ("BATCH", "BatchNorm{}d"),
        (("INSTANCE", {"affine": True}), "InstanceNorm{}d"),
        (("GROUP", {"num_groups": 2}), "GroupNorm"),
    ],
)
@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_norm_stands_between_convolution_and_relu(spatial_dims, norm, layer):
    net = BilinearUNet(spatial_dims, 1, 2, channels=(4, 8), norm=norm)
    for block in (*net.encoder.blocks, *net.blocks):
        expected = [f"Conv{spatial_dims}d", layer.format(spatial_dims), "ReLU"] * 3
        assert [type(module).__name__ for module in block] == expected
    assert net(torch.randn(2, 1, *[8] * spatial_dims)).shape == (2, 2, *[8] * spatial_dims)


def test_without_norm_the_names_of_the_weights_are_as_ever():
    names = [f"{i}.{kind}" for i in (0, 2, 4) for kind in ("weight", "bias")]
    blocks = ("encoder.blocks.0", "encoder.blocks.1", "blocks.0")
    expected = [*(f"{block}.{name}" for block in blocks for name in names), "final.weight", "final.bias"]
    for dropout in (0.0, 0.5):
        assert list(BilinearUNet(2, 1, 2, channels=(4, 8), dropout=dropout).state_dict()) == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"spatial_dims": 1}, "spatial_dims must be 2 or 3, got 1"),
        ({"in_channels": 0}, "in_channels must be at least 1, got 0"),
        ({"out_channels": 0}, "out_channels must be at least 1, got 0"),
        ({"channels": ()}, r"channels must be one or more positive integers, got \(\)"),
        ({"dropout": 1.0}, r"dropout must lie in \[0, 1\), got 1.0"),
        ({"dropout": 0.5, "channels": (4,)}, r"give two channels or more, got \(4,\)"),
        ({"channels": (4, 0)}, r"channels must be one or more positive integers, got \(4, 0\)"),
    ],
)
def test_rejects(arguments, message):
    with pytest.raises(ValueError, match=message):
        BilinearUNet(**{"spatial_dims": 2, "in_channels": 1, "out_channels": 2, **arguments})
