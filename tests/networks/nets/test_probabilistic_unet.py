# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from monai.networks.nets import SegResNet, UNet
from torch import nn

from monai_stochseg.inferers import draw_samples
from monai_stochseg.losses import ELBOLoss
from monai_stochseg.networks.nets import ProbabilisticUNet

CLASSES, LATENT = 3, 4
ABLATIONS = [{}, {"fixed_prior": True}, {"posterior_image": False}, {"latent_at_input": True}]


def make(spatial_dims: int, **kwargs) -> ProbabilisticUNet:
    return ProbabilisticUNet(spatial_dims, 2, CLASSES, **{"channels": (8, 12), "latent_dim": LATENT, **kwargs})


def batch(spatial_dims: int, raters: int = 1, size: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shape = [size] * spatial_dims
    image = torch.randn(2, 2, *shape, generator=generator)
    return image, torch.randint(0, CLASSES, (2, raters, *shape), generator=generator)


@pytest.mark.parametrize("ablation", ABLATIONS)
@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_shapes_and_gradients(spatial_dims, ablation):
    net = make(spatial_dims, **ablation)
    image, label = batch(spatial_dims)
    output = net(image, label)
    assert output.logits.shape == (2, CLASSES, *image.shape[2:])
    assert all(term.shape == (2, LATENT) for normal in output.levels[0] for term in normal)
    assert output.rater.tolist() == [0, 0]
    ELBOLoss()(output, label).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())
    predictive = net.predictive(image)
    assert predictive.weights is None
    assert predictive.mode_logits().shape == output.logits.shape
    samples = predictive.sample_logits(3)
    assert samples.shape == (2, 3, CLASSES, *image.shape[2:])
    assert not samples.requires_grad
    assert not torch.equal(samples[:, 0], samples[:, 1])


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_overfits_four_images(spatial_dims):
    torch.manual_seed(0)
    size = 16 if spatial_dims == 2 else 8
    image = torch.randn(4, 2, *[size] * spatial_dims)
    label = (image[:, :1] > 0).long() + (image[:, 1:] > 0.5).long()
    net = make(spatial_dims, channels=(16, 24))
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    for _ in range(250):
        optimizer.zero_grad()
        ELBOLoss()(net(image, label), label).backward()
        optimizer.step()
    predictive = net.predictive(image)
    assert (predictive.mode_logits().argmax(1) == label[:, 0]).float().mean() > 0.95
    assert (predictive.sample_logits(4).argmax(2) == label).float().mean() > 0.9


@pytest.mark.parametrize("raters", [2, 4])
def test_learns_two_answers(raters):
    """One rater draws all, the others nothing: samples are coherent and in proportion, which one answer cannot be."""
    torch.manual_seed(0)
    image = torch.ones(32, 2, 4, 4)
    label = torch.zeros(32, raters, 4, 4, dtype=torch.long)
    label[:, 0] = 1
    net = ProbabilisticUNet(2, 2, 2, channels=(8, 12), latent_dim=2)
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.02, total_iters=400)
    for _ in range(400):
        optimizer.zero_grad()
        ELBOLoss()(net(image, label), label).backward()
        optimizer.step()
        schedule.step()
    predictive = net.predictive(image[:1])
    share = predictive.sample_logits(400, torch.Generator().manual_seed(0)).argmax(2).float().mean((2, 3))
    assert ((share < 0.05) | (share > 0.95)).float().mean() > 0.8
    assert share.mean().item() == pytest.approx(1 / raters, abs=0.15)


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_training_step_under_autocast(spatial_dims):
    net = make(spatial_dims)
    image, label = batch(spatial_dims)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = net(image, label)
        loss = ELBOLoss()(output, label)
        predictive = net.predictive(image)
    loss.backward()
    terms = [loss, output.logits, *(term for normal in output.levels[0] for term in normal)]
    assert all(term.dtype == torch.float32 for term in terms)
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in net.parameters())
    assert predictive.sample_logits(1).dtype == torch.float32  # drawn outside of autocast, as the evaluator does
    assert draw_samples(predictive, 3).labels.shape == (2, 3, *image.shape[2:])


class Counted(nn.Module):
    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return self.module(x)


@pytest.mark.parametrize(("latent_at_input", "calls"), [(False, 1), (True, 6)])
def test_the_core_runs_once_per_image(latent_at_input, calls):
    net = make(2, latent_at_input=latent_at_input)
    net.core = Counted(net.core)
    predictive = net.predictive(batch(2)[0])
    predictive.sample_logits(5)
    predictive.mode_logits()
    assert net.core.calls == calls


def test_the_shared_part_of_the_combination_changes_nothing():
    """The first convolution on features joined with the tiled latent, by the plain formula."""
    net = make(2)
    image, _ = batch(2)
    z = torch.randn(2, LATENT)
    features = net.core(image)
    joined = torch.cat([features, z[..., None, None].expand(-1, -1, *features.shape[2:])], dim=1)
    weight = torch.cat([net.combination.features.weight, net.combination.latent.weight[..., None, None]], dim=1)
    plain = net.combination.rest(nn.functional.conv2d(joined, weight, net.combination.features.bias))
    torch.testing.assert_close(net.predictive(image).decode(z[:, None])[:, 0], plain)


@pytest.mark.parametrize("name", ["UNet", "SegResNet"])
@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_any_core(spatial_dims, name):
    core = {
        "UNet": lambda: UNet(spatial_dims, 2, 5, channels=(8, 16), strides=(2,)),
        "SegResNet": lambda: SegResNet(spatial_dims, 8, 2, 5, blocks_down=(1, 1), blocks_up=(1,)),
    }[name]()
    net = make(spatial_dims, core=core, feature_channels=5)
    image, label = batch(spatial_dims)
    ELBOLoss()(net(image, label), label).backward()
    assert net.predictive(image).sample_logits(2).shape == (2, 2, CLASSES, *image.shape[2:])


@pytest.mark.parametrize("latent_dim", [1, 3, 6, 9])
def test_draws_replay_and_chunks_equal_the_whole(latent_dim):
    predictive = make(2, latent_dim=latent_dim).predictive(batch(2)[0])
    whole = predictive.sample_logits(5, torch.Generator().manual_seed(7))
    torch.testing.assert_close(whole, predictive.sample_logits(5, torch.Generator().manual_seed(7)), rtol=0, atol=0)
    generator = torch.Generator().manual_seed(7)
    chunks = torch.cat([predictive.sample_logits(n, generator) for n in (2, 1, 2)], dim=1)
    torch.testing.assert_close(whole, chunks, rtol=0, atol=0)


def test_latents_follow_the_prior():
    net = make(2)
    image, _ = batch(2)
    predictive = net.predictive(image)
    latents = predictive.sample_latents(4000, torch.Generator().manual_seed(0))
    mean, log_std = net.prior(image)
    torch.testing.assert_close(latents.mean(1), mean, atol=0.1, rtol=0)
    torch.testing.assert_close(latents.std(1), log_std.exp(), atol=0, rtol=0.1)
    torch.testing.assert_close(predictive.mode_logits(), predictive.decode(mean[:, None])[:, 0])


def test_a_training_step_replays_from_its_generator():
    net = make(2)
    image, label = batch(2, raters=3)
    one, two = (net(image, label, generator=torch.Generator().manual_seed(5)) for _ in range(2))
    for a, b in zip(one, two, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_raters_are_drawn_by_weight_and_seen_by_the_posterior():
    net = make(2)
    image, label = batch(2, raters=3)
    weights = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 2.0]])
    output = net(image, label, weights)
    assert output.rater.tolist() == [1, 2]
    mean, _ = net.posterior(image, torch.stack([label[0, 1:2], label[1, 2:3]]))
    torch.testing.assert_close(output.levels[0].posterior.mean, mean)
    assert {tuple(net(image, label).rater.tolist()) for _ in range(80)} == {(i, j) for i in range(3) for j in range(3)}


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_norm_in_core_prior_and_posterior(spatial_dims):
    net = make(spatial_dims, norm="BATCH")
    layers = {name.split(".")[0] for name, m in net.named_modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)}
    assert layers == {"core", "prior_net", "posterior_net"}
    image, label = batch(spatial_dims)
    ELBOLoss()(net(image, label), label).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in net.parameters())
    assert net.eval().predictive(image).sample_logits(2).shape == (2, 2, CLASSES, *image.shape[2:])


def test_a_void_voxel_is_no_class_to_the_posterior():
    net = make(2, posterior_image=False)
    image, label = batch(2)
    seen = []
    net.posterior_net.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    label[0, 0, 0, 0] = 255
    net.posterior(image, label)
    assert (seen[0][0, :, 0, 0] == -0.5).all()
    torch.testing.assert_close(seen[0][1] + 0.5, nn.functional.one_hot(label[1, 0], CLASSES).permute(2, 0, 1).float())


def test_the_fixed_prior_is_standard_normal():
    net = make(3, fixed_prior=True)
    mean, log_std = net.prior(batch(3)[0])
    assert mean.shape == (2, LATENT)
    assert (mean == 0).all()
    assert (log_std == 0).all()


@pytest.mark.parametrize("value", [-1e6, 1e6])
def test_log_deviations_are_bounded(value):
    net = make(2)
    with torch.no_grad():
        net.prior_net.head.bias.fill_(value)
        net.posterior_net.head.bias.fill_(-value)
    image, label = batch(2)
    output = net(image, label)
    assert output.levels[0].prior.log_std.abs().max() <= 5
    assert output.levels[0].posterior.log_std.abs().max() <= 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"out_channels": 1}, "must be at least 2, got 1"),
        ({"latent_dim": 0}, "latent_dim must be at least 1, got 0"),
        ({"spatial_dims": 4}, "spatial_dims must be 2 or 3, got 4"),
        ({"channels": ()}, "channels must be one or more"),
        ({"core": nn.Identity()}, "got core=Identity and feature_channels=None"),
        ({"feature_channels": 4}, "got core=NoneType and feature_channels=4"),
    ],
)
def test_rejects_options(arguments, message):
    with pytest.raises(ValueError, match=message):
        ProbabilisticUNet(**{"spatial_dims": 2, "in_channels": 1, "out_channels": 2, "channels": (4, 8), **arguments})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda net, x, y: net(x), "the posterior needs the label"),
        (lambda net, x, y: net.posterior(x, None), "the posterior needs the label"),
        (lambda net, x, y: net.posterior(x, y), r"the label of one rater, \[B, 1, \*S\], got \(2, 2, 8, 8\)"),
        (lambda net, x, y: net(x, y[:, 0]), r"y must be \[B, raters, \*S\]"),
        (lambda net, x, y: net(x, y[..., 1:]), r"y must be \[B, raters, \*S\]"),
        (lambda net, x, y: net(x, y, torch.ones(2, 3)), r"rater_weights must be \[2, 2\], .* got the shape \(2, 3\)"),
        (lambda net, x, y: net(x, y, torch.full(y.shape[:2], torch.nan)), "non-negative, with a positive sum .* nan"),
        (lambda net, x, y: net(x, y, torch.zeros(2, 2)), "positive sum"),
        (lambda net, x, y: net.predictive(x).decode(torch.zeros(2, LATENT)), r"latents must be \[B, n, L\]"),
    ],
)
def test_rejects_inputs(call, message):
    with pytest.raises(ValueError, match=message):
        call(make(2), *batch(2, raters=2))


def test_rejects_a_core_of_other_channels():
    net = make(2, core=UNet(2, 2, 5, channels=(8, 16), strides=(2,)), feature_channels=6)
    with pytest.raises(ValueError, match="the core gave 5 channels, feature_channels=6"):
        net.predictive(batch(2)[0])
