# SPDX-License-Identifier: Apache-2.0
"""What every network that is trained by a plain cross entropy has in common."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from monai.networks.nets import UNet
from torch import nn
from torch.nn import functional as F

from monai_stochseg.inferers import draw_samples
from monai_stochseg.networks.nets import (
    BilinearUNet,
    DeterministicSampler,
    DropoutUNet,
    IndependentSampler,
    MHeads,
    MHeadsUNet,
    MonteCarloDropout,
    ThresholdSampler,
    UNetEnsemble,
)

IN, CLASSES, CHANNELS = 2, 3, (8, 12)


def unet(spatial_dims: int, out_channels: int = CLASSES, **kwargs) -> UNet:
    return UNet(spatial_dims, IN, out_channels, channels=CHANNELS, strides=(2,), **kwargs)


NETWORKS: dict[str, Callable[[int], nn.Module]] = {
    "DropoutUNet": lambda d: DropoutUNet(d, IN, CLASSES, CHANNELS, dropout=0.05),
    "MonteCarloDropout": lambda d: MonteCarloDropout(unet(d, dropout=0.05)),
    "UNetEnsemble": lambda d: UNetEnsemble(d, IN, CLASSES, CHANNELS, num_members=2),
    "MHeadsUNet": lambda d: MHeadsUNet(d, IN, CLASSES, CHANNELS, num_heads=3),
    "MHeads": lambda d: MHeads(unet(d, 8), 8, CLASSES, num_heads=3, spatial_dims=d),
    "ThresholdSampler": lambda d: ThresholdSampler(BilinearUNet(d, IN, CLASSES, CHANNELS, norm="BATCH")),
    "IndependentSampler": lambda d: IndependentSampler(unet(d)),
    "DeterministicSampler": lambda d: DeterministicSampler(unet(d)),
}
HYPOTHESES = {"UNetEnsemble": 2, "MHeadsUNet": 3, "MHeads": 3}
pytestmark = [
    pytest.mark.parametrize("name", NETWORKS),
    pytest.mark.parametrize("spatial_dims", [2, 3]),
]


def batch(spatial_dims: int, items: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Images, and labels ``[B, *S]`` that a network can read from them."""
    coarse = torch.randn(items, IN, *[3] * spatial_dims, generator=torch.Generator().manual_seed(0))
    image = F.interpolate(coarse, scale_factor=4 if spatial_dims == 2 else 2)
    return image, (image[:, 0] > 0).long() + (image[:, 1] > 0.5).long()


def cross_entropy(output: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    hypotheses = output.dim() - label.dim() == 2  # [B, M, C, *S]
    label = label.repeat_interleave(output.shape[1], dim=0) if hypotheses else label
    return F.cross_entropy(output.flatten(0, 1) if hypotheses else output, label)


def test_shapes(name, spatial_dims):
    net = NETWORKS[name](spatial_dims)
    image, _ = batch(spatial_dims, 2)
    size = image.shape[2:]
    hypotheses = [HYPOTHESES[name]] if name in HYPOTHESES else []
    assert net(image).shape == (2, *hypotheses, CLASSES, *size)
    predictive = net.predictive(image)
    assert predictive.weights is None
    assert predictive.mode_logits().shape == (2, CLASSES, *size)
    samples = predictive.sample_logits(3)
    assert samples.shape == (2, 3, CLASSES, *size)
    assert not samples.requires_grad


def test_overfits_four_images(name, spatial_dims):
    torch.manual_seed(0)
    net = NETWORKS[name](spatial_dims)
    image, label = batch(spatial_dims, 4)
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
    for _ in range(100):
        optimizer.zero_grad()
        cross_entropy(net(image), label).backward()
        optimizer.step()
    predictive = net.predictive(image)
    assert (predictive.mode_logits().argmax(1) == label).float().mean() > 0.9
    samples = predictive.sample_logits(4, torch.Generator().manual_seed(0)).argmax(2)
    assert (samples == label[:, None]).float().mean() > 0.85


def test_training_step_under_autocast(name, spatial_dims):
    net = NETWORKS[name](spatial_dims)
    image, label = batch(spatial_dims, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = cross_entropy(net(image), label)
        predictive = net.predictive(image)
    loss.backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in net.parameters())
    assert predictive.sample_logits(1).dtype == torch.float32
    assert draw_samples(predictive, 3).labels.shape == (2, 3, *image.shape[2:])


def test_draws_replay_and_chunks_equal_the_whole(name, spatial_dims):
    predictive = NETWORKS[name](spatial_dims).predictive(batch(spatial_dims, 2)[0])
    whole = predictive.sample_logits(5, torch.Generator().manual_seed(7))
    torch.testing.assert_close(whole, predictive.sample_logits(5, torch.Generator().manual_seed(7)), rtol=0, atol=0)
    generator = torch.Generator().manual_seed(7)
    chunks = torch.cat([predictive.sample_logits(n, generator) for n in (2, 1, 2)], dim=1)
    torch.testing.assert_close(whole, chunks, rtol=0, atol=0)
    alike = all(torch.equal(whole[:, 0], sample) for sample in whole.unbind(1))
    assert alike == (name == "DeterministicSampler")
