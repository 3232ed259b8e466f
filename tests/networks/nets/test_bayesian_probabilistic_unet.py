# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from monai.inferers import SlidingWindowInferer
from monai.networks.nets import UNet
from torch.nn import functional as F

from monai_stochseg.distributions import BayesianLatentDistribution, LatentDistribution
from monai_stochseg.inferers import PredictiveInferer, draw_samples
from monai_stochseg.losses import SupervisedUncertaintyLoss
from monai_stochseg.networks.export import exportable
from monai_stochseg.networks.nets import BayesianProbabilisticUNet

CLASSES = 3


def make(spatial_dims: int, **kwargs) -> BayesianProbabilisticUNet:
    return BayesianProbabilisticUNet(
        spatial_dims, 2, CLASSES, **{"channels": (4, 6), "latent_dim": 2, "num_samples": 3, **kwargs}
    )


def batch(spatial_dims: int, raters: int = 2, size: int = 9) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shape = [size] * spatial_dims
    image = torch.randn(2, 2, *shape, generator=generator)
    return image, torch.randint(0, CLASSES, (2, raters, *shape), generator=generator)


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_shapes_and_gradients(spatial_dims):
    net = make(spatial_dims)
    image, label = batch(spatial_dims)
    size = image.shape[2:]
    output = net(image, label)
    assert output.latent.logits.shape == (2, CLASSES, *size)
    assert output.samples.shape == (2, 3, CLASSES, *size)
    (weight,) = output.weights
    assert weight.mean.shape == weight.log_std.shape == (4, 4, *[3] * spatial_dims)
    raw = net.variational.raw_log_std  # the posterior's answer has noise in its weights, the samples have none
    (of_noise,) = torch.autograd.grad(output.latent.logits.square().sum(), raw, retain_graph=True)
    assert of_noise.abs().sum() > 0
    assert torch.autograd.grad(output.samples.sum(), raw, retain_graph=True, allow_unused=True) == (None,)
    SupervisedUncertaintyLoss(10)(output, label).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())
    predictive = net.predictive(image)
    assert isinstance(predictive, BayesianLatentDistribution)
    assert predictive.mode_logits().shape == (2, CLASSES, *size)
    samples = predictive.sample_logits(3)
    assert samples.shape == (2, 3, CLASSES, *size)
    assert not samples.requires_grad


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_overfits_four_images(spatial_dims):
    torch.manual_seed(0)
    coarse = torch.randn(4, 2, *[3] * spatial_dims)
    image = F.interpolate(coarse, scale_factor=4 if spatial_dims == 2 else 2)
    label = (image[:, :1] > 0).long() + (image[:, 1:] > 0.5).long()
    net = make(spatial_dims, channels=(12, 16), norm="INSTANCE")
    loss = SupervisedUncertaintyLoss(4)
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
    for _ in range(130):
        optimizer.zero_grad()
        loss(net(image, label), label).backward()
        optimizer.step()
    predictive = net.eval().predictive(image)
    assert (predictive.mode_logits().argmax(1) == label[:, 0]).float().mean() > 0.9
    assert (predictive.sample_logits(4).argmax(2) == label).float().mean() > 0.85


@pytest.mark.parametrize("uncertainty", ["cross_entropy", "variance"])
def test_learns_two_answers(uncertainty):
    """One rater of four draws all: samples are coherent and in proportion, and what is open is aleatoric."""
    torch.manual_seed(0)
    image = torch.ones(16, 2, 2, 2)
    label = torch.zeros(16, 4, 2, 2, dtype=torch.long)
    label[:, 0] = 1
    net = BayesianProbabilisticUNet(2, 2, 2, channels=(8, 12), latent_dim=2)
    loss = SupervisedUncertaintyLoss(1000, uncertainty=uncertainty)
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
    for _ in range(250):
        optimizer.zero_grad()
        loss(net(image, label), label).backward()
        optimizer.step()
    predictive = net.predictive(image[:1])
    share = predictive.sample_logits(300, torch.Generator().manual_seed(0)).argmax(2).float().mean((2, 3))
    assert ((share < 0.05) | (share > 0.95)).float().mean() > 0.8
    assert share.mean().item() == pytest.approx(0.25, abs=0.12)


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_training_step_under_autocast(spatial_dims):
    net = make(spatial_dims)
    image, label = batch(spatial_dims)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = net(image, label)
        loss = SupervisedUncertaintyLoss(10)(output, label)
        predictive = net.predictive(image)
    loss.backward()
    assert all(t.dtype == torch.float32 for t in (loss, output.latent.logits, output.samples, *output.weights[0]))
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in net.parameters())
    assert predictive.sample_logits(1).dtype == torch.float32  # drawn outside of autocast, as the evaluator does
    assert draw_samples(predictive, 3).labels.shape == (2, 3, *image.shape[2:])


def test_samples_of_one_draw_of_the_weights_differ_in_the_latent_alone_and_the_other_way_round():
    net = make(2, log_std=0.0)
    image, _ = batch(2)
    predictive = net.predictive(image)
    given = predictive.given_weights(torch.Generator().manual_seed(0))
    assert isinstance(given, LatentDistribution)
    latents = torch.zeros(2, 2, 2)
    torch.testing.assert_close(*given.decode(latents).unbind(1))  # equal latents, equal answers
    other = predictive.given_weights(torch.Generator().manual_seed(1))
    assert not torch.allclose(given.decode(latents), other.decode(latents))
    assert not torch.allclose(*given.sample_logits(2).unbind(1))

    same_latent = predictive.given_latent(torch.Generator().manual_seed(0))
    torch.testing.assert_close(*same_latent.given_weights().sample_logits(2).unbind(1))
    assert not torch.allclose(*same_latent.sample_logits(2).unbind(1))
    # the images of a batch share the weights
    alone = net.predictive(image[1:]).given_weights(torch.Generator().manual_seed(0))
    torch.testing.assert_close(alone.decode(latents[1:]), given.decode(latents)[1:])


def test_the_core_runs_once_and_draws_replay():
    net = make(2)
    calls = []
    net.core.register_forward_hook(lambda *_: calls.append(1))
    predictive = net.predictive(batch(2)[0])
    whole = predictive.sample_logits(5, torch.Generator().manual_seed(7))
    generator = torch.Generator().manual_seed(7)
    chunks = torch.cat([predictive.sample_logits(n, generator) for n in (2, 1, 2)], dim=1)
    torch.testing.assert_close(whole, chunks, rtol=0, atol=0)
    predictive.mode_logits()
    assert len(calls) == 1


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_any_core(spatial_dims):
    core = UNet(spatial_dims, 2, 5, channels=(4, 8), strides=(2,))
    net = make(spatial_dims, core=core, feature_channels=5)
    image, label = batch(spatial_dims, size=8)
    SupervisedUncertaintyLoss(10)(net(image, label), label).backward()
    assert net.predictive(image).sample_logits(2).shape == (2, 2, CLASSES, *image.shape[2:])


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_in_windows_a_sample_has_one_draw_of_weights_and_latent(spatial_dims):
    """A core without a field of view beyond the voxel: windows and the whole then agree but for the 3x3 border."""
    core = torch.nn.Conv2d(2, 4, 1) if spatial_dims == 2 else torch.nn.Conv3d(2, 4, 1)
    net = make(spatial_dims, core=core, feature_channels=4, log_std=0.5)
    image = torch.ones(1, 2, *[12] * spatial_dims)
    windows = SlidingWindowInferer([8] * spatial_dims, sw_batch_size=1, overlap=0.5)
    predictive = PredictiveInferer(windows)(image, net)
    for distribution in (predictive, predictive.given_weights(torch.Generator().manual_seed(2))):
        samples = distribution.sample_logits(2, torch.Generator().manual_seed(1))
        centres = [samples[(..., *[place] * spatial_dims)] for place in (2, 9)]  # of two windows
        torch.testing.assert_close(*centres)
        assert not torch.allclose(samples[:, 0], samples[:, 1])
    given = [predictive.given_weights(torch.Generator().manual_seed(2)) for _ in range(2)]
    torch.testing.assert_close(*(d.sample_logits(1, torch.Generator().manual_seed(1)) for d in given))
    masked = PredictiveInferer(windows)(image, net, mask=torch.zeros(1, 1, *image.shape[2:]))
    assert masked.given_weights().sample_logits(2).argmax(2).sum() == 0


def test_raters_are_drawn_by_weight():
    net = make(2)
    image, label = batch(2, raters=3)
    output = net(image, label, torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 2.0]]))
    assert output.latent.rater.tolist() == [1, 2]


def test_a_training_step_replays_from_its_generator():
    net = make(2)
    image, label = batch(2)
    one, two, other = (net(image, label, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    for a, b, c in zip(
        (one.latent.logits, one.samples), (two.latent.logits, two.samples), (other.latent.logits, other.samples),
        strict=True,
    ):  # fmt: skip
        torch.testing.assert_close(a, b, rtol=0, atol=0)
        assert not torch.equal(a, c)


def test_no_export_drops_the_noise_of_the_weights():
    with pytest.raises(ValueError, match="network BayesianProbabilisticUNet draws its samples inside"):
        exportable(make(2))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_samples": 0}, "num_samples must be at least 1, got 0"),
        ({"log_std": 2.0}, "log_std must lie between -10.0 and 1.0, got 2.0"),
        ({"out_channels": 1}, "out_channels counts the background and must be at least 2, got 1"),
        ({"feature_channels": 4}, "core and feature_channels"),
    ],
)
def test_rejects_options(arguments, message):
    good = {"spatial_dims": 2, "in_channels": 1, "out_channels": 2, "channels": (4, 8)}
    with pytest.raises(ValueError, match=message):
        BayesianProbabilisticUNet(**{**good, **arguments})


def test_rejects_inputs():
    net = make(2)
    with pytest.raises(ValueError, match="the posterior needs the label"):
        net(batch(2)[0])
    with pytest.raises(ValueError, match="x"):
        net.predictive(torch.ones(2, 2, 9))
