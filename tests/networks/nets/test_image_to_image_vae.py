# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from monai.networks.nets import UNet
from torch import nn

from monai_stochseg.losses import ELBOLoss
from monai_stochseg.networks.nets import Image2ImageVAE, ProbabilisticUNet

CLASSES, LATENT = 3, 4


def make(spatial_dims: int, **kwargs) -> Image2ImageVAE:
    return Image2ImageVAE(spatial_dims, 2, CLASSES, **{"channels": (8, 12), "latent_dim": LATENT, **kwargs})


def batch(spatial_dims: int, items: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    coarse = torch.randn(items, 2, *[3] * spatial_dims, generator=torch.Generator().manual_seed(0))
    image = torch.nn.functional.interpolate(coarse, scale_factor=4 if spatial_dims == 2 else 2)
    return image, (image[:, :1] > 0).long() + (image[:, 1:] > 0.5).long()


def test_it_is_the_ablation_of_all_three():
    torch.manual_seed(0)
    net = make(2)
    torch.manual_seed(0)
    ablated = ProbabilisticUNet(2, 2, CLASSES, (8, 12), LATENT, None, None, True, False, True)
    assert net.state_dict().keys() == ablated.state_dict().keys()
    image, label = batch(2)
    one, two = (n(image, label, generator=torch.Generator().manual_seed(0)) for n in (net, ablated))
    torch.testing.assert_close(one.logits, two.logits, rtol=0, atol=0)


def test_the_prior_is_standard_normal_and_the_posterior_sees_the_label_alone():
    net = make(2)
    image, label = batch(2)
    mean, log_std = net.prior(image)
    assert not mean.any()
    assert not log_std.any()
    for one, two in zip(net.posterior(image, label), net.posterior(image + 1, label), strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=0)


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_overfits_four_images(spatial_dims):
    torch.manual_seed(0)
    net = make(spatial_dims)
    image, label = batch(spatial_dims, 4)
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
    for _ in range(120):
        optimizer.zero_grad()
        ELBOLoss()(net(image, label), label).backward()
        optimizer.step()
    predictive = net.predictive(image)
    assert (predictive.mode_logits().argmax(1) == label[:, 0]).float().mean() > 0.95
    assert (predictive.sample_logits(4, torch.Generator().manual_seed(0)).argmax(2) == label).float().mean() > 0.85


@pytest.mark.parametrize("norm", [None, "BATCH"])
@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_training_step_under_autocast(spatial_dims, norm):
    net = make(spatial_dims, norm=norm)
    image, label = batch(spatial_dims)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = ELBOLoss()(net(image, label), label)
    loss.backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in net.parameters())


def test_any_network_is_a_core():
    image, label = batch(2)
    core = nn.Sequential(UNet(2, 2 + LATENT, 5, channels=(8, 12), strides=(2,)), nn.ReLU())
    net = make(2, core=core, feature_channels=5)
    assert net.core is core
    ELBOLoss()(net(image, label), label).backward()
    assert all(p.grad is not None for p in core.parameters())
    assert net.predictive(image).sample_logits(2).shape == (2, 2, CLASSES, *image.shape[2:])


def test_the_core_runs_in_the_autocast_mode_of_the_inference():
    seen = []
    core = nn.Conv2d(2 + LATENT, 5, 1)
    core.register_forward_hook(lambda module, args, output: seen.append(output.dtype))
    net = make(2, core=core, feature_channels=5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        predictive = net.predictive(batch(2)[0])
    assert predictive.sample_logits(1).dtype == predictive.mode_logits().dtype == torch.float32
    predictive = net.predictive(batch(2)[0])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        predictive.mode_logits()
    assert seen == [torch.bfloat16, torch.bfloat16, torch.float32]


def test_draws_replay_and_chunks_equal_the_whole():
    predictive = make(2).predictive(batch(2)[0])
    whole = predictive.sample_logits(3, torch.Generator().manual_seed(7))
    generator = torch.Generator().manual_seed(7)
    chunks = torch.cat([predictive.sample_logits(n, generator) for n in (2, 1)], dim=1)
    torch.testing.assert_close(whole, chunks, rtol=0, atol=0)
    assert not torch.equal(whole[:, 0], whole[:, 1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"spatial_dims": 4}, "spatial_dims must be 2 or 3, got 4"),
        ({"spatial_dims": 2, "latent_dim": 0}, "latent_dim must be at least 1, got 0"),
    ],
)
def test_rejects(arguments, message):
    with pytest.raises(ValueError, match=message):
        make(**arguments)


def test_rejects_training_without_a_label():
    with pytest.raises(ValueError, match="the posterior needs the label"):
        make(2)(batch(2)[0])
