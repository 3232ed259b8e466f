# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor
from monai.networks.nets import UNet
from torch import nn
from torch.nn import functional as F

from monai_stochseg.networks.nets import BlackBoxCalibrationNetwork, CalibrationNetwork

CLASSES = 3


def segnet(spatial_dims: int, **kwargs) -> CalibrationNetwork:
    arguments = {"channels": (8, 12), "num_convs": (1, 2), **kwargs}
    return CalibrationNetwork(spatial_dims, 2, CLASSES, **arguments)


def small(spatial_dims: int) -> BlackBoxCalibrationNetwork:
    return BlackBoxCalibrationNetwork(spatial_dims, 2, CLASSES, channels=8)


NETWORKS = [segnet, small]


@pytest.mark.parametrize("shape", [(8, 12), (9, 7), (4, 4), (5, 9, 6)])
@pytest.mark.parametrize("make", NETWORKS)
def test_logits_have_the_size_of_the_image(make, shape):
    net = make(len(shape))
    logits = net(torch.randn(2, 2, *shape))
    assert logits.shape == (2, CLASSES, *shape)
    logits.square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize("make", NETWORKS)
def test_learns_how_often_raters_give_each_class(make, spatial_dims):
    """Of four raters one sees nothing anywhere: the cross entropy is least at 3 to 1."""
    torch.manual_seed(0)
    net = make(spatial_dims)
    for module in net.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    coarse = torch.randn(4, 2, *[3] * spatial_dims)
    image = F.interpolate(coarse, scale_factor=4 if spatial_dims == 2 else 2)
    label = (image[:, 0] > 0).long() + (image[:, 1] > 0.5).long()
    target = F.one_hot(label, CLASSES).movedim(-1, 1) * 0.75
    target[:, 0] += 0.25
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-2)
    for _ in range(60):
        optimizer.zero_grad()
        F.cross_entropy(net(image), target).backward()
        optimizer.step()
    gap = (net(image).softmax(1) - target).abs().mean()
    assert gap < 0.06


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize("make", NETWORKS)
def test_training_step_under_autocast(make, spatial_dims):
    net = make(spatial_dims)
    image = torch.randn(2, 2, *[8] * spatial_dims)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = net(image).float().square().mean()
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize("shape", [(6, 7), (5, 4, 6)])
def test_a_maximum_returns_to_the_place_where_it_was_found(shape):
    """Of convolutions and norms that pass everything, pooling and its inverse are left."""
    net = segnet(len(shape), channels=(2,), num_convs=(1,)).eval()
    for level in (*net.encoder, *net.decoder):
        level[0] = nn.Identity()
    net.final = nn.Identity()
    image = torch.randn(1, 2, *shape)
    pool = F.max_pool2d if len(shape) == 2 else F.max_pool3d
    output, maxima = net(image), pool(image, 2, ceil_mode=True)
    kept = output != 0
    torch.testing.assert_close(output[kept], image[kept], rtol=0, atol=0)
    assert kept.sum() == maxima.numel()
    torch.testing.assert_close(output[kept].sort().values, maxima.flatten().sort().values, rtol=0, atol=0)


def test_the_papers_networks_are_the_defaults():
    convolutions = [m for m in CalibrationNetwork(2, 1, 2).modules() if isinstance(m, nn.Conv2d)]
    widths = [64, 64, 128, 128, *[256] * 3, *[512] * 6]
    assert [m.out_channels for m in convolutions[:13]] == widths
    # the decoder is held from the image down, as the encoder; each level ends with the width of the one above it
    assert [m.out_channels for m in convolutions[13:-1]] == [64, 64, 128, 64, 256, 256, 128, 512, 512, 256, *[512] * 3]
    assert convolutions[-1].out_channels == 2
    layers = [type(m) for m in BlackBoxCalibrationNetwork(2, 2, 2).modules() if not list(m.children())]
    assert layers == [nn.Conv2d, nn.BatchNorm2d, nn.LeakyReLU, nn.Dropout] * 5 + [nn.Conv2d]
    dropout = [m.p for m in BlackBoxCalibrationNetwork(2, 2, 2).modules() if isinstance(m, nn.Dropout)]
    assert dropout == [0.1] * 5


def test_the_black_boxes_predictions_are_all_that_the_small_one_needs():
    black_box = UNet(2, 1, CLASSES, channels=(4, 8), strides=(2,)).eval()
    net = BlackBoxCalibrationNetwork(2, CLASSES, CLASSES, channels=4).eval()
    image = MetaTensor(torch.randn(1, 1, 8, 8))
    assert net(black_box(image).softmax(1)).shape == (1, CLASSES, 8, 8)


@pytest.mark.parametrize("shape", [(3, 8), (8, 2, 8)])
def test_refuses_images_smaller_than_the_levels_allow(shape):
    with pytest.raises(ValueError, match=r"2 halvings need at least 4 voxels along each axis, got an image of \("):
        segnet(len(shape))(torch.zeros(1, 2, *shape))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"spatial_dims": 1}, "spatial_dims must be 2 or 3, got 1"),
        ({"in_channels": 0}, "in_channels must be at least 1, got 0"),
        ({"out_channels": 1}, "out_channels counts the background and must be at least 2, got 1"),
        ({"dropout": 1.0}, r"dropout must lie in \[0, 1\), got 1.0"),
    ],
)
@pytest.mark.parametrize("network", [CalibrationNetwork, BlackBoxCalibrationNetwork])
def test_rejects_options(network, arguments, message):
    with pytest.raises(ValueError, match=message):
        network(**{"spatial_dims": 2, "in_channels": 1, "out_channels": 2, **arguments})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"channels": ()}, r"channels must be one or more positive integers, got \(\)"),
        ({"channels": (4, 0)}, "channels must be one or more positive integers"),
        ({"num_convs": (1,)}, r"num_convs must be 2 positive integers, as many as channels, got \(1,\)"),
        ({"num_convs": (1, 0)}, r"num_convs must be 2 positive integers, as many as channels, got \(1, 0\)"),
    ],
)
def test_rejects_levels(arguments, message):
    with pytest.raises(ValueError, match=message):
        segnet(2, **arguments)
    with pytest.raises(ValueError, match="channels must be one or more positive integers"):
        BlackBoxCalibrationNetwork(2, 1, 2, channels=0)
