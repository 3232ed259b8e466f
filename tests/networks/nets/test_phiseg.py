# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from monai_stochseg.distributions import AncestralDistribution, Gaussian
from monai_stochseg.inferers import draw_samples
from monai_stochseg.losses import ELBOLoss
from monai_stochseg.networks.blocks.latent_hierarchy import Walk
from monai_stochseg.networks.nets import PHiSeg, ProbabilisticUNet

CLASSES = 3


def make(spatial_dims: int, **kwargs) -> PHiSeg:
    small = {"channels": (4, 6, 8), "latent_levels": 2, "norm": None}
    return PHiSeg(spatial_dims, 2, CLASSES, **{**small, **kwargs})


def batch(spatial_dims: int, raters: int = 1, size: int = 9) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shape = [size] * spatial_dims
    image = torch.randn(2, 2, *shape, generator=generator)
    return image, torch.randint(0, CLASSES, (2, raters, *shape), generator=generator)


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_shapes_and_gradients(spatial_dims):
    net = make(spatial_dims)
    image, label = batch(spatial_dims)
    output = net(image, label)
    assert [part.shape for part in (*output.partial, output.logits)] == [(2, CLASSES, *image.shape[2:])] * 2
    for level, size in zip(output.levels, (3, 5), strict=True):  # the coarsest first; 9 voxels are 5, then 3
        assert all(term.shape == (2, 2, *[size] * spatial_dims) for normal in level for term in normal)
    ELBOLoss(level_weights=net.level_weights())(output, label).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())
    predictive = net.predictive(image)
    assert isinstance(predictive, AncestralDistribution)
    assert predictive.mode_logits().shape == output.logits.shape
    samples = predictive.sample_logits(3)
    assert samples.shape == (2, 3, CLASSES, *image.shape[2:])
    assert not samples.requires_grad
    assert not torch.equal(samples[:, 0], samples[:, 1])
    assert net.reconstruct(image, label).shape == output.logits.shape


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_overfits_four_images(spatial_dims):
    torch.manual_seed(0)
    coarse = torch.randn(4, 2, *[3] * spatial_dims)
    image = F.interpolate(coarse, scale_factor=4 if spatial_dims == 2 else 2)
    label = (image[:, :1] > 0).long() + (image[:, 1:] > 0.5).long()
    net = make(spatial_dims, channels=(12, 16), norm="INSTANCE")
    loss = ELBOLoss(level_weights=net.level_weights())
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
    for _ in range(130):
        optimizer.zero_grad()
        loss(net(image, label), label).backward()
        optimizer.step()
    predictive = net.eval().predictive(image)
    assert (predictive.mode_logits().argmax(1) == label[:, 0]).float().mean() > 0.9
    assert (predictive.sample_logits(4).argmax(2) == label).float().mean() > 0.85


def test_learns_two_answers():
    """One rater draws all, three nothing: samples are coherent and in proportion, which one answer cannot be."""
    torch.manual_seed(0)
    image = torch.ones(16, 2, 2, 2)
    label = torch.zeros(16, 4, 2, 2, dtype=torch.long)
    label[:, 0] = 1
    net = PHiSeg(2, 2, 2, channels=(8, 12), latent_levels=2, norm=None)
    loss = ELBOLoss(level_weights=net.level_weights())
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    for _ in range(200):
        optimizer.zero_grad()
        loss(net(image, label), label).backward()
        optimizer.step()
    share = net.predictive(image[:1]).sample_logits(300, torch.Generator().manual_seed(0)).argmax(2).float()
    share = share.mean((2, 3))
    assert ((share < 0.05) | (share > 0.95)).float().mean() > 0.8
    assert share.mean().item() == pytest.approx(0.25, abs=0.15)


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_training_step_under_autocast(spatial_dims):
    net = make(spatial_dims)
    image, label = batch(spatial_dims)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = net(image, label)
        loss = ELBOLoss()(output, label)
        predictive = net.predictive(image)
    loss.backward()
    terms = [loss, output.logits, *output.partial, *(t for level in output.levels for n in level for t in n)]
    assert all(term.dtype == torch.float32 for term in terms)
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in net.parameters())
    assert predictive.sample_logits(1).dtype == torch.float32  # drawn outside of autocast, as the evaluator does
    assert draw_samples(predictive, 3).labels.shape == (2, 3, *image.shape[2:])


def test_a_level_adds_its_logits_to_those_of_the_coarser_ones():
    net = make(2)
    image, label = batch(2)
    heads = net.likelihood.heads
    with torch.no_grad():
        for parameter in heads[1].parameters():
            parameter.zero_()
    output = net(image, label)
    torch.testing.assert_close(output.partial[0], output.logits, rtol=0, atol=0)


def test_the_prior_of_a_level_depends_on_the_posteriors_draw_before_it():
    net = make(2)
    image, label = batch(2)
    one, two = (net(image, label, generator=torch.Generator().manual_seed(seed)).levels for seed in (0, 1))
    torch.testing.assert_close(one[0].prior.mean, two[0].prior.mean, rtol=0, atol=0)
    assert not torch.equal(one[1].prior.mean, two[1].prior.mean)


class OneLevel(ProbabilisticUNet):
    """A Probabilistic U-Net of the parts of a hierarchy of one level, whose latent has a single place."""

    def __init__(self, hierarchy: PHiSeg, spatial_dims: int) -> None:
        super().__init__(spatial_dims, 2, CLASSES, channels=(2,))
        self.hierarchy = hierarchy

    def prior(self, x: torch.Tensor) -> Gaussian:
        return self._normal(self.hierarchy.prior_net, x)

    def posterior(self, x: torch.Tensor, y: torch.Tensor) -> Gaussian:
        one_hot = F.one_hot(y[:, 0], CLASSES).movedim(-1, 1)
        return self._normal(self.hierarchy.posterior_net, torch.cat([x, one_hot - 0.5], dim=1))

    def decoder(self, x: torch.Tensor):
        features = self.hierarchy.prior_net.encoder(x)

        def decode(z: torch.Tensor) -> torch.Tensor:
            latent = z.reshape(*z.shape, *[1] * self.spatial_dims)
            return self.hierarchy.decode(features, Walk([], [latent]))[-1]

        return decode

    def _normal(self, hierarchy, x: torch.Tensor) -> Gaussian:
        (normal,) = hierarchy(hierarchy.encoder(x), lambda level, normal: normal.mean).normals
        return Gaussian(*(term.flatten(1) for term in normal))


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_one_level_has_the_bound_of_a_probabilistic_unet(spatial_dims):
    net = make(spatial_dims, latent_levels=1, latent_dim=3)
    image, label = batch(spatial_dims, raters=3, size=4)  # 4, 2 and 1 voxels
    own = net(image, label, generator=torch.Generator().manual_seed(3))
    other = OneLevel(net, spatial_dims)(image, label, generator=torch.Generator().manual_seed(3))
    assert own.rater.tolist() == other.rater.tolist()
    torch.testing.assert_close(own.logits, other.logits)
    options = {"beta": 0.7, "reduction": "none"}
    losses = [
        ELBOLoss(level_weights=net.level_weights(), **options)(own, label),
        ELBOLoss(**options)(other, label),
    ]
    torch.testing.assert_close(*losses)
    wanted = [net.likelihood.heads[0].weight, net.posterior_net.heads[0].conv.weight]
    for one, two in zip(*(torch.autograd.grad(loss.sum(), wanted) for loss in losses), strict=True):
        torch.testing.assert_close(one, two)


def test_the_encoder_of_the_image_runs_once():
    net = make(2)
    calls = []
    net.prior_net.encoder.register_forward_hook(lambda *_: calls.append(1))
    predictive = net.predictive(batch(2)[0])
    predictive.sample_logits(5)
    predictive.mode_logits()
    assert len(calls) == 1


def test_draws_replay_and_chunks_equal_the_whole():
    predictive = make(2).predictive(batch(2)[0])
    whole = predictive.sample_logits(5, torch.Generator().manual_seed(7))
    generator = torch.Generator().manual_seed(7)
    chunks = torch.cat([predictive.sample_logits(n, generator) for n in (2, 1, 2)], dim=1)
    torch.testing.assert_close(whole, chunks, rtol=0, atol=0)


def test_raters_are_drawn_by_weight_and_seen_by_the_posterior():
    net = make(2)
    image, label = batch(2, raters=3)
    output = net(image, label, torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 2.0]]))
    assert output.rater.tolist() == [1, 2]
    alone = net(image, torch.stack([label[0, 1:2], label[1, 2:3]]))
    torch.testing.assert_close(output.levels[0].posterior.mean, alone.levels[0].posterior.mean)


@pytest.mark.parametrize(("spatial_dims", "weights"), [(2, [16.0, 4.0, 1.0]), (3, [64.0, 8.0, 1.0])])
def test_levels_are_weighted_by_the_volume_of_their_voxels(spatial_dims, weights):
    assert make(spatial_dims, latent_levels=3).level_weights() == weights


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"out_channels": 1}, "out_channels counts the background and must be at least 2, got 1"),
        ({"latent_dim": 0}, "latent_dim must be at least 1, got 0"),
        ({"latent_levels": 3}, "latent_levels must lie between 1 and the 2 resolutions of channels, got 3"),
        ({"spatial_dims": 4}, "spatial_dims must be 2 or 3, got 4"),
    ],
)
def test_rejects_options(arguments, message):
    good = {"spatial_dims": 2, "in_channels": 1, "out_channels": 2, "channels": (4, 8), "latent_levels": 2}
    with pytest.raises(ValueError, match=message):
        PHiSeg(**{**good, **arguments})


def test_rejects_inputs():
    net = make(2)
    image, label = batch(2, raters=2)
    with pytest.raises(ValueError, match="the posterior needs the label"):
        net(image)
    with pytest.raises(ValueError, match=r"the label of one rater, \[B, 1, \*S\], got \(2, 2, 9, 9\)"):
        net.reconstruct(image, label)
