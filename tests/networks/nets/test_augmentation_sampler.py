# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.inferers import SlidingWindowInferer
from monai.networks.nets import UNet
from monai.transforms import Compose, RandFlip, RandRotate90, RandShiftIntensity
from torch import nn

from monai_stochseg.distributions import DeterministicDistribution
from monai_stochseg.inferers import PredictiveInferer, draw_samples
from monai_stochseg.networks.nets import (
    MonteCarloDropout,
    ProbabilisticUNet,
    TestTimeAugmentation,
    UNetEnsemble,
    augmentation_transform,
)

CLASSES = 3


def conv(spatial_dims: int) -> type[nn.Module]:
    return nn.Conv2d if spatial_dims == 2 else nn.Conv3d


def turns(spatial_dims: int) -> Compose:
    flips = [RandFlip(prob=0.5, spatial_axis=axis) for axis in range(spatial_dims)]
    return Compose([*flips, RandRotate90(prob=0.8, spatial_axes=(0, 1))])


def image(spatial_dims: int, size: int = 9) -> torch.Tensor:
    shape = (2, 1, size, *[size + 2] * (spatial_dims - 1))
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def unet(spatial_dims: int, **kwargs) -> UNet:
    return UNet(spatial_dims, 1, CLASSES, channels=(4, 8), strides=(2,), **kwargs)


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_an_equivariant_network_gives_equal_samples(spatial_dims):
    """A network of single voxels; the images are no squares, so that a quarter turn changes their shape."""
    net = TestTimeAugmentation(conv(spatial_dims)(1, CLASSES, 1), turns(spatial_dims))
    predictive = net.predictive(image(spatial_dims))
    samples = predictive.sample_logits(8)
    assert samples.shape == (2, 8, CLASSES, *image(spatial_dims).shape[2:])
    torch.testing.assert_close(samples, predictive.mode_logits()[:, None].expand_as(samples))


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_any_other_network_gives_different_ones(spatial_dims):
    net = TestTimeAugmentation(conv(spatial_dims)(1, CLASSES, 3, padding=1), turns(spatial_dims))
    samples = net.predictive(image(spatial_dims)).sample_logits(8)
    assert samples.std(1).mean() > 0.05


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_small_changes_are_changed_back(spatial_dims):
    """Of a smooth image, through a network that changes nothing, the inner voxels come back as they were."""
    axes = torch.meshgrid(*[torch.linspace(0, 3, 24)] * spatial_dims, indexing="ij")
    smooth = torch.stack([torch.sin(sum(axes)), -torch.sin(sum(axes))])[None]
    transform = augmentation_transform(spatial_dims, intensity=0.0)
    samples = TestTimeAugmentation(nn.Identity(), transform).predictive(smooth).sample_logits(6)
    inner = (slice(None), slice(None), slice(None), *[slice(6, 18)] * spatial_dims)
    torch.testing.assert_close(samples[inner], smooth[:, None].expand_as(samples)[inner], atol=0.08, rtol=0)
    assert samples.std(1).max() > 1e-4


def test_changes_of_intensity_are_seen_by_the_network_alone():
    net = TestTimeAugmentation(nn.Conv2d(1, CLASSES, 1), Compose([RandShiftIntensity(0.5, prob=1.0)]))
    x = image(2)
    samples = net.predictive(x).sample_logits(4)
    shift = (samples - net.predictive(x).mode_logits()[:, None])[:, :, 0] / net.network.weight[0, 0, 0, 0]
    torch.testing.assert_close(shift, shift[..., :1, :1].expand_as(shift), atol=1e-4, rtol=1e-3)
    assert shift.abs().max() <= 0.5001
    assert len(set(shift[..., 0, 0].flatten().tolist())) == 8  # each sample of each item has its own


SAMPLED = {
    "dropout": lambda: MonteCarloDropout(unet(2, dropout=0.4)),
    "ensemble": lambda: UNetEnsemble(2, 1, CLASSES, (2, 4), 2),
    "latent": lambda: ProbabilisticUNet(2, 1, CLASSES, (2, 4), latent_dim=2),
}


@pytest.mark.parametrize("name", SAMPLED)
def test_a_sample_of_a_network_that_is_sampled_is_a_draw_of_it(name):
    inner = SAMPLED[name]()
    net = TestTimeAugmentation(inner, Compose([RandFlip(prob=0.0)]))
    predictive = net.predictive(image(2, 12))
    samples = predictive.sample_logits(6, torch.Generator().manual_seed(0))
    assert samples.std(1).mean() > 1e-4
    torch.testing.assert_close(predictive.mode_logits(), inner.predictive(image(2, 12)).mode_logits())


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_the_default_of_any_network_in_one_line(spatial_dims):
    samples = TestTimeAugmentation(unet(spatial_dims)).predictive(image(spatial_dims, 12)).sample_logits(3).argmax(2)
    assert samples.shape == (2, 3, 12, *[14] * (spatial_dims - 1))


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_in_windows_each_sample_has_one_change(spatial_dims):
    net = TestTimeAugmentation(conv(spatial_dims)(1, CLASSES, 1), turns(spatial_dims))
    inferer = PredictiveInferer(SlidingWindowInferer([6] * spatial_dims))
    x = image(spatial_dims, 10)
    samples = inferer(x, net).sample_logits(3)
    torch.testing.assert_close(samples, net.predictive(x).mode_logits()[:, None].expand_as(samples))
    shifted = TestTimeAugmentation(net.network, Compose([RandShiftIntensity(0.5, prob=1.0)]))
    change = (inferer(x, shifted).sample_logits(1)[:, 0] - net.network(x))[:, 0]
    assert change.flatten(1).std(1).max() < 1e-4  # the same in all windows


def test_draws_replay_and_chunks_equal_the_whole():
    predictive = TestTimeAugmentation(unet(2)).predictive(image(2, 12))
    whole = predictive.sample_logits(5, torch.Generator().manual_seed(7))
    np.random.seed(3)  # noqa: NPY002
    generator = torch.Generator().manual_seed(7)
    chunks = torch.cat([predictive.sample_logits(n, generator) for n in (2, 1, 2)], dim=1)
    torch.testing.assert_close(whole, chunks, rtol=0, atol=0)


def test_under_autocast():
    net = TestTimeAugmentation(unet(2))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        predictive = net.predictive(image(2, 12))
    assert predictive.sample_logits(1).dtype == torch.float32
    assert draw_samples(predictive, 2).labels.shape == (2, 2, 12, 14)


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_samples_of_a_network_that_has_learned_four_images(spatial_dims):
    """It was trained as it is, under autocast, with flips and turns, and its samples are right."""
    torch.manual_seed(0)
    given = torch.randn(4, 1, *[8] * spatial_dims)
    label = (given[:, 0] > 0).long() + (given[:, 0] > 1).long()
    net = TestTimeAugmentation(nn.Sequential(conv(spatial_dims)(1, 16, 1), nn.ReLU(), conv(spatial_dims)(16, 3, 1)))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.03)
    for _ in range(150):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = net(given)
        nn.functional.cross_entropy(logits.float(), label).backward()
        optimizer.step()
    samples = TestTimeAugmentation(net.network, turns(spatial_dims)).predictive(given).sample_logits(4).argmax(2)
    assert (samples == label[:, None]).float().mean() > 0.9


class Weighted(nn.Module):
    def predictive(self, x: torch.Tensor) -> DeterministicDistribution:
        distribution = DeterministicDistribution(x.repeat(1, 2, 1, 1))
        distribution.weights = torch.ones(len(x), 1)
        return distribution


def test_rejects_what_cannot_be_sampled_so():
    with pytest.raises(ValueError, match="the convolutions of network do not say which"):
        TestTimeAugmentation(nn.Identity())
    with pytest.raises(ValueError, match=r"rotation must lie in \[0, 1\), got 2"):
        augmentation_transform(2, rotation=2.0)
    with pytest.raises(ValueError, match="samples of Weighted carry weights"):
        TestTimeAugmentation(Weighted(), turns(2)).predictive(image(2)).sample_logits(1)
    cut = TestTimeAugmentation(nn.Conv2d(1, CLASSES, 3), turns(2))
    with pytest.raises(ValueError, match=r"transform: the logits of an image of \(9, 11\) are \(7, 9\) after"):
        cut.predictive(image(2)).sample_logits(1)
