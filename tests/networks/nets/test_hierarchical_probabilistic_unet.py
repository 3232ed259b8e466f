# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from monai_stochseg.distributions import Gaussian
from monai_stochseg.inferers import draw_samples
from monai_stochseg.losses import ELBOLoss
from monai_stochseg.networks.blocks.latent_hierarchy import Walk
from monai_stochseg.networks.nets import HierarchicalProbabilisticUNet, ProbabilisticUNet

CLASSES = 3


def make(spatial_dims: int, **kwargs) -> HierarchicalProbabilisticUNet:
    small = {"channels": (4, 6, 8), "latent_dims": (1, 2), "blocks_per_level": 1}
    return HierarchicalProbabilisticUNet(spatial_dims, 2, CLASSES, **{**small, **kwargs})


def batch(spatial_dims: int, raters: int = 1, size: int = 9) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shape = [size] * spatial_dims
    image = torch.randn(2, 2, *shape, generator=generator)
    return image, torch.randint(0, CLASSES, (2, raters, *shape), generator=generator)


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_shapes_and_gradients(spatial_dims):
    net = make(spatial_dims, channels=(4, 4, 6, 8))
    image, label = batch(spatial_dims)
    output = net(image, label)
    assert output.logits.shape == (2, CLASSES, *image.shape[2:])
    assert output.partial == ()
    for level, size, dim in zip(output.levels, (2, 3), (1, 2), strict=True):  # of 9, 5, 3 and 2 voxels
        assert all(term.shape == (2, dim, *[size] * spatial_dims) for normal in level for term in normal)
    ELBOLoss()(output, label).backward()
    idle = {n for n, p in net.named_parameters() if p.grad is None}
    # what a posterior decodes behind its last latent is not used
    assert all(name.startswith("posterior_net.blocks.1.") for name in idle)
    assert all(p.grad.abs().sum() > 0 for n, p in net.named_parameters() if n not in idle)
    predictive = net.predictive(image)
    samples = predictive.sample_logits(3)
    assert samples.shape == (2, 3, CLASSES, *image.shape[2:])
    assert not torch.equal(samples[:, 0], samples[:, 1])
    assert net.reconstruct(image, label).shape == predictive.mode_logits().shape == output.logits.shape


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_overfits_four_images(spatial_dims):
    torch.manual_seed(0)
    coarse = torch.randn(4, 2, *[3] * spatial_dims)
    image = F.interpolate(coarse, scale_factor=2)
    label = (image[:, :1] > 0).long() + (image[:, 1:] > 0.5).long()
    net = make(spatial_dims, channels=(16, 24), latent_dims=(1,))
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
    for _ in range(100):
        optimizer.zero_grad()
        ELBOLoss()(net(image, label), label).backward()
        optimizer.step()
    predictive = net.predictive(image)
    assert (predictive.mode_logits().argmax(1) == label[:, 0]).float().mean() > 0.95
    assert (predictive.sample_logits(4).argmax(2) == label).float().mean() > 0.9
    assert (net.reconstruct(image, label).argmax(1) == label[:, 0]).float().mean() > 0.95


class OneLevel(ProbabilisticUNet):
    """A Probabilistic U-Net of the parts of a hierarchy of one level, whose latent has a single place."""

    def __init__(self, hierarchy: HierarchicalProbabilisticUNet) -> None:
        super().__init__(2, 2, CLASSES, channels=(2,))
        self.hierarchy = hierarchy

    def prior(self, x: torch.Tensor) -> Gaussian:
        return self._normal(self.hierarchy.prior_net, x)

    def posterior(self, x: torch.Tensor, y: torch.Tensor) -> Gaussian:
        one_hot = F.one_hot(y[:, 0], CLASSES).movedim(-1, 1)
        return self._normal(self.hierarchy.posterior_net, torch.cat([x, one_hot - 0.5], dim=1))

    def decoder(self, x: torch.Tensor):
        core = self.hierarchy.prior_net
        features = core.encoder(x)

        def decode(z: torch.Tensor) -> torch.Tensor:
            walk: Walk = core(features, lambda level, normal: z[..., None, None])
            return self.hierarchy.decode(features, walk)[-1]

        return decode

    def _normal(self, core, x: torch.Tensor) -> Gaussian:
        (normal,) = core(core.encoder(x), lambda level, normal: normal.mean).normals
        return Gaussian(*(term[..., 0, 0] for term in normal))


def test_a_hierarchy_of_one_level_has_the_bound_of_a_probabilistic_unet():
    net = make(2, latent_dims=(3,))
    image, label = batch(2, raters=3, size=4)  # 4, 2 and 1 pixels
    seed = {"generator": torch.Generator().manual_seed(3)}
    own = net(image, label, **seed)
    other = OneLevel(net)(image, label, generator=torch.Generator().manual_seed(3))
    assert own.rater.tolist() == other.rater.tolist()
    torch.testing.assert_close(own.logits, other.logits)
    losses = [ELBOLoss(0.7, reduction="none")(output, label) for output in (own, other)]
    torch.testing.assert_close(*losses)
    gradients = [torch.autograd.grad(loss.sum(), net.final.weight)[0] for loss in losses]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_training_step_under_autocast(spatial_dims):
    net = make(spatial_dims)
    image, label = batch(spatial_dims)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = net(image, label)
        loss = ELBOLoss(target_reconstruction=0.05, target_per_voxel=True, top_k=0.1)(output, label)
        predictive = net.predictive(image)
    loss.backward()
    terms = [loss, output.logits, *(t for level in output.levels for n in level for t in n)]
    assert all(term.dtype == torch.float32 for term in terms)
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in net.parameters())
    assert predictive.sample_logits(1).dtype == torch.float32
    assert draw_samples(predictive, 3).labels.shape == (2, 3, *image.shape[2:])


def test_draws_replay_and_the_encoder_runs_once():
    net = make(2)
    calls = []
    net.prior_net.encoder.register_forward_hook(lambda *_: calls.append(1))
    predictive = net.predictive(batch(2)[0])
    whole = predictive.sample_logits(5, torch.Generator().manual_seed(7))
    generator = torch.Generator().manual_seed(7)
    chunks = torch.cat([predictive.sample_logits(n, generator) for n in (2, 1, 2)], dim=1)
    torch.testing.assert_close(whole, chunks, rtol=0, atol=0)
    assert len(calls) == 1


def test_each_level_goes_on_with_the_latents_before_it():
    net = make(2)
    image, label = batch(2)
    one, two = (net(image, label, generator=torch.Generator().manual_seed(seed)).levels for seed in (0, 1))
    for kind in ("prior", "posterior"):
        first, second = ([getattr(levels[i], kind).mean for levels in (one, two)] for i in range(2))
        torch.testing.assert_close(*first, rtol=0, atol=0)
        assert not torch.equal(*second)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"out_channels": 1}, "out_channels counts the background and must be at least 2, got 1"),
        ({"latent_dims": (1, 1)}, "latent_dims must be positive, and one to 1 for 2 resolutions of channels, got"),
        ({"latent_dims": (0,)}, "latent_dims must be positive"),
        ({"channels": (0, 4)}, "channels must be one or more positive integers"),
        ({"blocks_per_level": 0}, "blocks_per_level must be at least 1, got 0"),
        ({"spatial_dims": 4}, "spatial_dims must be 2 or 3, got 4"),
    ],
)
def test_rejects_options(arguments, message):
    good = {"spatial_dims": 2, "in_channels": 1, "out_channels": 2, "channels": (4, 8), "latent_dims": (1,)}
    with pytest.raises(ValueError, match=message):
        HierarchicalProbabilisticUNet(**{**good, **arguments})
