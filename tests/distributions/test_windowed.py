# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from monai.inferers import SlidingWindowInferer

from monai_stochseg.distributions import (
    HypothesesDistribution,
    PredictiveDistribution,
    WindowedDistribution,
    draw_seeds,
)
from monai_stochseg.inferers import ValidConvolutionInferer, draw_samples
from monai_stochseg.networks.nets import ProbabilisticUNet


def generator(seed: int = 4) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def network(spatial_dims: int, **kwargs) -> ProbabilisticUNet:
    torch.manual_seed(0)
    return ProbabilisticUNet(spatial_dims, 1, 2, channels=(2, 4), latent_dim=2, **kwargs).eval()


class Shifts(PredictiveDistribution):
    """The window shifted by one normal number per sample, as classes x and -x."""

    def __init__(self, window: torch.Tensor) -> None:
        self.window = window

    def sample_logits(self, n: int, generator: torch.Generator | None = None) -> torch.Tensor:
        shifts = torch.randn(n, len(self.window), generator=generator)
        moved = torch.stack([self.window + s.reshape(-1, *[1] * (self.window.dim() - 1)) for s in shifts], dim=1)
        return torch.cat([moved, -moved], dim=2)

    def mode_logits(self) -> torch.Tensor:
        return torch.cat([self.window, -self.window], dim=1)


@pytest.mark.parametrize("size", [(8, 8), (4, 8, 8)])
def test_one_window_is_the_whole_image(size):
    net = network(len(size))
    image = torch.randn(2, 1, *size)
    windowed = WindowedDistribution(image, net.predictive, SlidingWindowInferer(size))
    samples = windowed.sample_logits(3, generator())
    assert samples.shape == (2, 3, 2, *size)
    assert not samples.requires_grad
    g = generator()
    seeds = [draw_seeds(2, g) for _ in range(3)]
    for b in range(2):
        whole = net.predictive(image[b : b + 1])
        torch.testing.assert_close(windowed.mode_logits()[b], whole.mode_logits()[0])
        for i in range(3):
            torch.testing.assert_close(samples[b, i], whole.sample_logits(1, generator(seeds[i][b]))[0, 0])


@pytest.mark.parametrize("size", [(8, 8), (4, 8, 8)])
def test_windows_share_the_noise_of_a_sample_and_items_do_not(size):
    half = torch.randn(1, 1, *size)
    image = torch.cat([half, half], dim=-1).repeat(2, *[1] * (len(size) + 1))  # two equal windows, two equal images
    windowed = WindowedDistribution(image, network(len(size)).predictive, SlidingWindowInferer(size, overlap=0))
    left, right = windowed.sample_logits(3, generator()).chunk(2, dim=-1)
    torch.testing.assert_close(left, right)
    for one, two in ((left[0], left[1]), (left[:, 0], left[:, 1])):
        assert (one - two).abs().max() > 1e-3


@pytest.mark.parametrize(
    "inferer", [SlidingWindowInferer(4, overlap=0.5, mode="gaussian"), ValidConvolutionInferer(4, 0)]
)
def test_windows_do_not_change_a_sample(inferer):
    image = torch.randn(2, 1, 10, 13)
    windowed = WindowedDistribution(image, Shifts, inferer)
    torch.testing.assert_close(windowed.mode_logits(), Shifts(image).mode_logits())
    samples = windowed.sample_logits(3, generator())
    shift = samples[:, :, 0] - image
    torch.testing.assert_close(shift, shift[:, :, :1, :1].expand_as(shift), atol=1e-5, rtol=0)
    torch.testing.assert_close(samples[:, :, 1], -samples[:, :, 0])


def test_the_chunks_of_a_draw_equal_the_whole_draw():
    image = torch.randn(2, 1, 8, 12)
    windowed = WindowedDistribution(image, network(2).predictive, SlidingWindowInferer(8))
    g = generator()
    chunks = [windowed.sample_logits(n, g) for n in (1, 3, 2)]
    torch.testing.assert_close(torch.cat(chunks, dim=1), windowed.sample_logits(6, generator()))
    one, all_at_once = (draw_samples(windowed, 6, generator(), chunk_size=k) for k in (1, 6))
    assert torch.equal(one.labels, all_at_once.labels)


def test_the_network_runs_once_in_a_window_for_all_samples():
    calls = []
    windowed = WindowedDistribution(
        torch.randn(1, 1, 8, 8), lambda x: calls.append(x.shape) or Shifts(x), SlidingWindowInferer(4, overlap=0)
    )
    windowed.sample_logits(5)
    assert calls == [(1, 1, 4, 4)] * 4


def test_the_autocast_mode_is_that_of_the_inference():
    seen = []
    image = torch.randn(1, 1, 4, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        windowed = WindowedDistribution(
            image, lambda x: seen.append(torch.is_autocast_enabled("cpu")) or Shifts(x), SlidingWindowInferer(4)
        )
    assert windowed.sample_logits(1).dtype == torch.float32
    WindowedDistribution(image, windowed.predictive, SlidingWindowInferer(4)).mode_logits()
    assert seen == [True, False]


def test_a_hypothesis_is_the_same_in_all_windows():
    def predictive(window: torch.Tensor) -> HypothesesDistribution:
        heads = torch.stack([torch.zeros_like(window), torch.ones_like(window)], dim=1)
        return HypothesesDistribution(torch.cat([heads, 1 - heads], dim=2))

    windowed = WindowedDistribution(torch.randn(3, 1, 8, 8), predictive, SlidingWindowInferer(4, overlap=0))
    samples = windowed.sample_logits(20, generator())[:, :, 0]
    assert samples.unique().tolist() == [0, 1]
    assert (samples == samples[..., :1, :1]).all()


def test_errors():
    image = torch.randn(1, 1, 8, 8)
    with pytest.raises(ValueError, match=r"takes 4 windows at a time, but .* set its sw_batch_size to 1"):
        WindowedDistribution(image, Shifts, SlidingWindowInferer(4, sw_batch_size=4))
    with pytest.raises(ValueError, match="takes 2 windows at a time"):
        WindowedDistribution(image, Shifts, lambda x, f: f(torch.cat([x, x]))).mode_logits()
    with pytest.raises(ValueError, match="n must be at least 1, got 0"):
        WindowedDistribution(image, Shifts, SlidingWindowInferer(4)).sample_logits(0)

    def weighted(window: torch.Tensor) -> PredictiveDistribution:
        distribution = Shifts(window)
        distribution.weights = torch.ones(1, 1)
        return distribution

    with pytest.raises(ValueError, match="the samples of a window carry weights"):
        WindowedDistribution(image, weighted, SlidingWindowInferer(4)).sample_logits(1)


@pytest.mark.parametrize("chunk_size", [1, 3, 5])
def test_as_many_samples_as_hypotheses_are_each_once_in_all_windows(chunk_size):
    """Hypothesis m of 5 answers class m everywhere, in windows of all images alike."""

    def predictive(window: torch.Tensor) -> HypothesesDistribution:
        logits = torch.eye(5).reshape(1, 5, 5, 1, 1).expand(len(window), 5, 5, *window.shape[2:])
        return HypothesesDistribution(logits)

    windowed = WindowedDistribution(torch.zeros(2, 1, 6, 9), predictive, SlidingWindowInferer((4, 4)))
    labels = draw_samples(windowed, 5, generator(), chunk_size).labels.flatten(2)
    assert (labels == labels[:, :, :1]).all()
    assert labels[:, :, 0].sort(1).values.tolist() == [[0, 1, 2, 3, 4]] * 2
    whole = windowed.sample_logits(5, generator()).argmax(2).flatten(2)
    assert torch.equal(labels.long(), whole)
