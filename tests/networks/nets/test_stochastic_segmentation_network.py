# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import pytest
import torch
from monai.networks.nets import DynUNet, SegResNet, SwinUNETR, UNet
from torch import nn

from monai_stochseg.losses import SSNLoss
from monai_stochseg.networks.nets import DeepMedic, StochasticSegmentationNetwork

CLASSES, RANK, FEATURES = 3, 4, 8


def unet(spatial_dims: int, in_channels: int = 2) -> nn.Module:
    return UNet(spatial_dims, in_channels, FEATURES, channels=(8, 16), strides=(2,), norm="BATCH")


def make(backbone: nn.Module, spatial_dims: int, **kwargs) -> StochasticSegmentationNetwork:
    return StochasticSegmentationNetwork(
        backbone, FEATURES, CLASSES, **{"rank": RANK, "spatial_dims": spatial_dims, **kwargs}
    )


BACKBONES = {
    "UNet": (unet, 16),
    "SegResNet": (lambda d: SegResNet(d, 8, 2, FEATURES, blocks_down=(1, 1), blocks_up=(1,)), 16),
    "DynUNet": (lambda d: DynUNet(d, 2, FEATURES, [3, 3, 3], [1, 2, 2], [2, 2], filters=[8, 8, 8]), 16),
    "SwinUNETR": (lambda d: SwinUNETR(2, FEATURES, feature_size=12, depths=(1, 1, 1, 1), spatial_dims=d), 64),
    "DeepMedic": (lambda d: DeepMedic(d, 2, FEATURES, channels=(4,) * 8, fully_connected=(8, 8)), 95),
}


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize("name", BACKBONES)
def test_backbones(name, spatial_dims):
    build, size = BACKBONES[name]
    backbone = build(spatial_dims)
    net = make(backbone, spatial_dims).eval()
    out = 15 if name == "DeepMedic" else size
    image = torch.randn(1, 2, *[size] * spatial_dims)
    with torch.no_grad():
        parameters = net(image)
        assert parameters.shape == (1, CLASSES * (2 + RANK), *[out] * spatial_dims)
        predictive = net.predictive(image)
    assert predictive.mode_logits().shape == (1, CLASSES, *[out] * spatial_dims)
    assert predictive.sample_logits(3).shape == (1, 3, CLASSES, *[out] * spatial_dims)
    assert predictive.weights is None


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_overfits_four_images(spatial_dims):
    size = 16 if spatial_dims == 2 else 8
    image = torch.randn(4, 2, *[size] * spatial_dims)
    label = (image[:, :1] > 0).long() + (image[:, 1:] > 0.5).long()
    net = make(unet(spatial_dims), spatial_dims)
    loss = SSNLoss(CLASSES, RANK, num_samples=4)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    for step in range(150):
        loss.mean_only = step < 60
        optimizer.zero_grad()
        value = loss(net(image), label)
        value.backward()
        optimizer.step()
    predictive = net.predictive(image)
    assert (predictive.mode_logits().argmax(1) == label[:, 0]).float().mean() > 0.95
    assert (predictive.sample_logits(4).argmax(2) == label).float().mean() > 0.9


def test_learns_two_answers():
    """All or nothing with equal chance: samples are coherent and in proportion, where the mean alone says half."""
    torch.manual_seed(0)
    image = torch.ones(2, 2, 8, 8)
    label = torch.zeros(2, 2, 8, 8, dtype=torch.long)
    label[:, 1] = 1  # one rater draws all, one none
    net = StochasticSegmentationNetwork(nn.Conv2d(2, FEATURES, 1), FEATURES, 2, rank=2, spatial_dims=2)
    loss = SSNLoss(2, 2, num_samples=20, raters="mean")
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-2)
    for _ in range(300):
        optimizer.zero_grad()
        loss(net(image), label).backward()
        optimizer.step()
    share = net.predictive(image[:1]).sample_logits(300).argmax(2).float().mean((2, 3))
    assert ((share < 0.05) | (share > 0.95)).float().mean() > 0.8
    assert share.mean().item() == pytest.approx(0.5, abs=0.15)


@pytest.mark.parametrize("diagonal", [False, True])
@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_training_step_under_autocast(spatial_dims, diagonal):
    net = make(unet(spatial_dims), spatial_dims, diagonal=diagonal)
    image = torch.randn(2, 2, *[8] * spatial_dims)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = SSNLoss(CLASSES, RANK)(net(image), torch.zeros(2, 1, *[8] * spatial_dims, dtype=torch.long))
    loss.backward()
    assert loss.dtype == torch.float32
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in net.parameters())


@pytest.mark.parametrize("diagonal", [False, True])
@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_torchscript(tmp_path, spatial_dims, diagonal):
    net = make(unet(spatial_dims), spatial_dims, diagonal=diagonal).eval()
    image = torch.randn(1, 2, *[8] * spatial_dims)
    torch.jit.script(net).save(str(tmp_path / "net.ts"))
    torch.testing.assert_close(torch.jit.load(str(tmp_path / "net.ts"))(image), net(image))


def test_diagonal_has_no_factor():
    distribution = make(unet(2), 2, diagonal=True).predictive(torch.randn(1, 2, 8, 8))
    assert (distribution.cov_factor == 0).all()
    torch.testing.assert_close(distribution.variance(), distribution.log_diag.exp())


@pytest.mark.parametrize("value", [-1e6, 1e6])
def test_the_log_diagonal_is_bounded(value):
    net = make(unet(2), 2, eps=1e-5)
    with torch.no_grad():
        net.log_diag.bias.fill_(value)
    log_diag = net.predictive(torch.randn(1, 2, 8, 8)).log_diag
    assert log_diag.min() >= math.log(1e-5) - 1e-5
    assert log_diag.max() <= 10.001


def test_the_covariance_starts_small_by_default():
    image = torch.randn(1, 2, 8, 8)
    small, published = (
        make(unet(2), 2, **k).predictive(image).variance().mean() for k in ({}, {"covariance_init": None})
    )
    assert small < 0.3
    assert published > 2 * small


def test_the_region_mask_reaches_the_distribution():
    mask = torch.zeros(1, 1, 8, 8)
    labels = make(unet(2), 2).predictive(torch.randn(1, 2, 8, 8), mask=mask).sample_logits(2).argmax(2)
    assert (labels == 0).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rank": 0}, "rank must be at least 1, got 0; for a diagonal covariance set diagonal=True"),
        ({"out_channels": 1}, "must be at least 2, got 1"),
        ({"spatial_dims": 4}, "spatial_dims must be 2 or 3, got 4"),
        ({"eps": 0.0}, "eps must be positive"),
        ({"covariance_init": -1.0}, "covariance_init must be positive"),
    ],
)
def test_rejects(arguments, message):
    with pytest.raises(ValueError, match=message):
        StochasticSegmentationNetwork(**{"backbone": unet(2), "feature_channels": 8, "out_channels": 2, **arguments})


def test_rejects_a_backbone_of_other_channels():
    net = StochasticSegmentationNetwork(unet(2), FEATURES + 1, CLASSES, spatial_dims=2)
    with pytest.raises(ValueError, match="the backbone gave 8 channels, feature_channels=9"):
        net(torch.randn(1, 2, 8, 8))


@pytest.mark.parametrize("diagonal", [False, True])
def test_the_head_sees_the_positive_part_of_the_features(diagonal):
    net = StochasticSegmentationNetwork(nn.Identity(), 3, 2, rank=2, spatial_dims=2, diagonal=diagonal)
    features = torch.randn(1, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    parameters = net(features)
    torch.testing.assert_close(net(features.clamp(min=0)), parameters)
    torch.testing.assert_close(parameters[:, :2], net.mean(features.clamp(min=0)))
    assert not torch.allclose(parameters[:, :2], net.mean(features))


def test_the_predictive_distribution_is_scaled_and_the_loss_is_not():
    torch.manual_seed(0)
    plain = make(unet(2), 2).eval()
    scales = {"temperature": -2.0, "class_scale": [1.0, 0.0, 3.0], "rank_scale": [0.0, 1.0, 2.0, 1.0]}
    scaled = make(unet(2), 2, **scales).eval()
    scaled.load_state_dict(plain.state_dict())
    x = torch.randn(1, 2, 16, 16)
    assert torch.equal(plain(x), scaled(x))
    generators = (torch.Generator().manual_seed(0) for _ in range(2))
    expected = plain.predictive(x).scaled(**scales).sample_logits(2, next(generators))
    assert torch.equal(scaled.predictive(x).sample_logits(2, next(generators)), expected)


@pytest.mark.parametrize(("name", "number"), [("class_scale", CLASSES), ("rank_scale", RANK)])
def test_refuses_a_scale_of_another_length(name, number):
    with pytest.raises(ValueError, match=f"{name} must hold {number} values, got 1"):
        make(unet(2), 2, **{name: [1.0]})
