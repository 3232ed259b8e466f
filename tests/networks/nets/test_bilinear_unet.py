# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch

from monai_stochseg.networks.nets import (
    BilinearUNet,
    DropoutUNet,
    Image2ImageVAE,
    MHeadsUNet,
    ProbabilisticUNet,
    UNetEnsemble,
)
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
@pytest.mark.parametrize("align_corners", [False, True])
def test_torchscript(shape, norm, dropout, align_corners):
    net = BilinearUNet(len(shape), 1, 2, (4, 6, 8), norm, dropout, align_corners).eval()
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


@pytest.mark.parametrize(
    ("align_corners", "expected"), [(False, [0.0, 0.25, 0.75, 1.0]), (True, [0.0, 1 / 3, 2 / 3, 1.0])]
)
def test_interpolation_with_and_without_aligned_corners(align_corners, expected):
    """The decoder's block of a network whose encoder is of 0 and 1."""
    net = BilinearUNet(2, 1, None, channels=(1, 1), align_corners=align_corners)
    net.encoder.forward = lambda x: [torch.zeros(1, 1, 4, 1), torch.tensor([0.0, 1.0]).reshape(1, 1, 2, 1)]
    seen = []
    net.blocks[0].register_forward_pre_hook(lambda module, args: seen.append(args[0][0, 1, :, 0]))
    net(torch.zeros(1, 1, 4, 1))
    torch.testing.assert_close(seen[0], torch.tensor(expected))


@pytest.mark.parametrize("align_corners", [False, True])
def test_networks_pass_align_corners_on(align_corners):
    options = {"channels": (2, 4), "align_corners": align_corners}
    built = [
        *(make(2, 1, 2, **options) for make in (BilinearUNet, DropoutUNet, MHeadsUNet, ProbabilisticUNet)),
        *(Image2ImageVAE(2, 1, 2, **options), UNetEnsemble(2, 1, 2, num_members=2, **options)),
    ]
    for network in built:
        unets = [module for module in network.modules() if isinstance(module, BilinearUNet)]
        assert unets
        assert all(unet.align_corners is align_corners for unet in unets)


def test_the_paper_has_five_levels_of_three_convolutions_from_32_channels():
    net = BilinearUNet(2, 1, 2)
    assert [block[0].out_channels for block in net.encoder.blocks] == [32, 64, 128, 256, 512]
    assert all(sum(isinstance(m, torch.nn.Conv2d) for m in block) == 3 for block in (*net.encoder.blocks, *net.blocks))


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
