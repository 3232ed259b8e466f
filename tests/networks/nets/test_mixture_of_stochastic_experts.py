# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import pytest
import torch
from monai.data import DataLoader, Dataset
from monai.handlers import IgniteMetricHandler, from_engine
from monai.inferers import SlidingWindowInferer
from monai.networks.nets import FlexibleUNet, SegResNet
from torch import nn
from torch.nn import functional as F

from monai_stochseg.distributions import ExpertMixtureDistribution, ExpertSamples
from monai_stochseg.engines import StochasticEvaluator
from monai_stochseg.inferers import PredictiveInferer, draw_samples
from monai_stochseg.metrics import GeneralizedEnergyDistanceMetric, compute_generalized_energy_distance
from monai_stochseg.networks.blocks import LayerFeatures
from monai_stochseg.networks.nets import (
    BilinearUNet,
    MixtureOfStochasticExperts,
    MixtureOfStochasticExpertsUNet,
)

GATE = torch.tensor([[0.2, 0.8], [0.5, 0.5]])
MEAN, LOG_STD = torch.tensor([[-3.0], [2.0]]), torch.tensor([0.1, 0.4]).log()


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def network(spatial_dims: int = 2, **kwargs) -> MixtureOfStochasticExpertsUNet:
    torch.manual_seed(0)
    arguments = {"channels": (8, 12), "num_experts": 3, "num_samples": 2, "latent_dim": 2}
    return MixtureOfStochasticExpertsUNet(spatial_dims, 2, 3, **{**arguments, **kwargs})


def batch(spatial_dims: int, items: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    """Images, and labels of four raters: three see what can be read from the image, the fourth sees nothing."""
    coarse = torch.randn(items, 2, *[3] * spatial_dims, generator=generator())
    image = F.interpolate(coarse, scale_factor=4 if spatial_dims == 2 else 2)
    label = (image[:, 0] > 0).long() + (image[:, 1] > 0.5).long()
    return image, torch.stack([label, label, label, torch.zeros_like(label)], dim=1)


def nearest_sample_loss(output: ExpertSamples, label: torch.Tensor) -> torch.Tensor:
    """Cross entropy of each rater's nearest sample, and KL of the raters' shares to the samples' weights."""
    logits, weights, _ = output
    n, raters = logits.shape[1], label.shape[1]
    pairs = logits.repeat_interleave(raters, dim=1).flatten(0, 1), label.repeat(1, n, *[1] * (label.dim() - 2))
    cost = F.cross_entropy(pairs[0], pairs[1].flatten(0, 1), reduction="none").flatten(1).mean(1)
    cost = cost.reshape(len(logits), n, raters)
    share = F.one_hot(cost.argmin(1), n).float().mean(1)
    divergence = (torch.xlogy(share, share) - share * weights.log()).sum(1)
    return cost.amin(1).mean() + divergence.mean()


@pytest.mark.parametrize("shape", [(16, 12), (5, 9, 6)])
@pytest.mark.parametrize("levels", [(0, -1), (2, 2), (0, 0), (-3, 1), (1, 1)])
def test_shapes_at_every_level(shape, levels):
    net = network(len(shape), channels=(4, 6, 8), gating_level=levels[0], injection_level=levels[1])
    image = torch.randn(2, 2, *shape)
    output = net(image)
    assert output.logits.shape == (2, 6, 3, *shape)
    assert output.num_experts == 3
    torch.testing.assert_close(output.weights.sum(1), torch.ones(2))
    predictive = net.eval().predictive(image)
    assert predictive.mode_logits().shape == (2, 3, *shape)
    samples = predictive.sample_logits(6)
    assert samples.shape == (2, 6, 3, *shape)
    assert not samples.requires_grad


def test_the_papers_unet_is_the_default():
    net = MixtureOfStochasticExpertsUNet(2, 1, 2)
    unet = BilinearUNet(2, 1, None, (32, 64, 128, 192, 192, 192, 192), "BATCH")
    own = {name.split(".", 1)[1]: value.shape for name, value in net.backbone.state_dict().items()}
    assert own == {name.split(".", 1)[1]: value.shape for name, value in unet.state_dict().items()}
    assert [layer.weight.shape for layer in net.gating[::2]] == [(192, 192), (192, 192), (4, 192)]
    assert sum(isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1) for layer in net.head.modules()) == 3
    assert (net.num_experts, net.num_samples, net.prior_mean.shape) == (4, 4, (4, 1))


@pytest.mark.parametrize("levels", [(0, -1), (1, 1), (0, 0)])
def test_without_noise_it_is_the_unet(levels):
    """The trunk and the rest of the U-Net, whose injection passes the features unchanged, are the whole U-Net."""
    net = network(channels=(4, 6, 8), gating_level=levels[0], injection_level=levels[1]).eval()
    torch.manual_seed(0)
    unet = BilinearUNet(2, 2, None, (4, 6, 8), "BATCH").eval()
    nn.init.zeros_(net.injection.residual.weight)
    net.injection.scale.register_forward_hook(lambda module, inputs, output: torch.ones_like(output))
    image = torch.randn(2, 2, 10, 12)
    expected = net.head.head(unet(image))
    for logits in net(image).logits.unbind(1):
        torch.testing.assert_close(logits, expected)


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize("injection_level", [-1, 0])
def test_overfits_four_images_of_two_modes(spatial_dims, injection_level):
    net = network(spatial_dims, latent_dim=1, injection_level=injection_level)
    image, label = batch(spatial_dims)
    optimizer, noise = torch.optim.Adam(net.parameters(), lr=1e-2), generator()
    for _ in range(100):
        optimizer.zero_grad()
        loss = nearest_sample_loss(net(image, noise), label)
        loss.backward()
        optimizer.step()
    assert loss < math.log(2) + 0.2  # log 2 of the divergence: of an expert's two samples one is nearest
    predictive = net.eval().predictive(image)
    samples = predictive.sample_logits(6, generator()).argmax(2)
    for rater, share in ((0, 0.75), (3, 0.25)):
        is_mode = (samples == label[:, rater, None]).flatten(2).float().mean(2) > 0.9
        torch.testing.assert_close((predictive.weights * is_mode).sum(1), torch.full((4,), share), atol=0.15, rtol=0)
    assert (predictive.mode_logits().argmax(1) == label[:, 0]).float().mean() > 0.95


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_training_step_under_autocast(spatial_dims):
    net = network(spatial_dims)
    image, label = batch(spatial_dims, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = net(image)
        predictive = net.predictive(image)
    assert output.logits.dtype == output.weights.dtype == torch.float32
    nearest_sample_loss(output, label).backward()
    # batch norm takes away the bias before it: its gradient is rounding, but it is there
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    for p in (net.prior_mean, net.raw_log_std, net.gating[0].weight):
        assert p.grad.any()
    assert predictive.sample_logits(6).dtype == predictive.mode_logits().dtype == torch.float32


def test_samples_run_in_the_autocast_mode_of_the_inference():
    net, seen = network().eval(), []
    net.head.register_forward_hook(lambda *_: seen.append(torch.is_autocast_enabled("cpu")))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        predictive = net.predictive(batch(2)[0])
    predictive.sample_logits(6)
    net.predictive(batch(2)[0]).mode_logits()
    assert seen == [True] * 6 + [False] * 3


def test_the_priors_and_the_gate_learn():
    net = network()
    output = net(torch.randn(2, 2, 8, 8), generator())
    one = output.logits[:, 2:4].square().sum()  # the second expert's
    gradients = torch.autograd.grad(one, [net.prior_mean, net.raw_log_std], retain_graph=True)
    for gradient in gradients:
        assert gradient.flatten(1).any(1).tolist() == [False, True, False] if gradient.dim() > 1 else gradient[1] != 0
    assert gradients[1].nonzero().flatten().tolist() == [1]
    output.weights[:, 0].sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in net.gating.parameters())
    assert net.backbone.encoder.blocks[0][0].weight.grad.any()
    assert net.prior_mean.grad is None


def test_the_latents_are_those_of_the_experts_in_order():
    net = network(num_samples=400, prior_std=0.25)
    seen = []
    net.injection.register_forward_hook(lambda module, inputs, output: seen.append(inputs[1]))
    net(torch.randn(1, 2, 4, 4), generator())
    torch.testing.assert_close(net.prior_log_std().exp(), torch.full((3,), 0.25))
    for latents, mean in zip(seen[0][0].chunk(3), net.prior_mean, strict=True):
        torch.testing.assert_close(latents.mean(0), mean, atol=0.06, rtol=0)
        torch.testing.assert_close(latents.std(0), torch.full((2,), 0.25), atol=0.04, rtol=0)


@pytest.mark.parametrize(("num_experts", "latent_dim"), [(1, 1), (4, 1), (35, 5)])
def test_no_two_experts_begin_alike(num_experts, latent_dim):
    for seed in range(20):
        torch.manual_seed(seed)
        mean = network(num_experts=num_experts, latent_dim=latent_dim).prior_mean
        assert mean.shape == (num_experts, latent_dim)
        assert mean.abs().max() < 2.5
        if num_experts > 1:
            assert torch.pdist(mean).min() > 1e-3
            cells = torch.special.ndtr(mean[:, 0]).mul(4).long().bincount(minlength=4)
            assert cells.max() - cells.min() <= 2


def test_deterministic_experts():
    """A latent is its expert's mean, in training and in both representations, and only the mean is learned."""
    net = network(prior_std=0.0).eval()
    x = torch.randn(2, 2, 4, 4)
    seen = []
    net.injection.register_forward_hook(lambda module, inputs, output: seen.append(inputs[1]))
    output = net(x)
    assert torch.equal(seen[0], net.prior_mean.repeat_interleave(2, dim=0).expand(2, -1, -1))
    assert torch.equal(output.logits[:, ::2], output.logits[:, 1::2])
    output.logits.square().sum().backward()
    assert net.prior_mean.grad.any()
    assert "raw_log_std" not in dict(net.named_parameters())
    compact = net.predictive(x).sample_logits(6)
    torch.testing.assert_close(compact, output.logits)
    net.representation = "standard"
    drawn = net.predictive(x).sample_logits(40)
    differences = (drawn[:, :, None] - compact[:, None]).abs().flatten(3).amax(3)
    assert differences.amin(2).max() < 1e-5


def test_no_gate():
    net = network(gating_level=None).eval()
    x = torch.randn(2, 2, 4, 4)
    assert torch.equal(net.gate(x), torch.full((2, 3), 1 / 3))
    output = net(x)
    torch.testing.assert_close(output.weights, torch.full((2, 6), 1 / 6))
    assert not any("gating" in name for name, _ in net.named_parameters())
    torch.testing.assert_close(net.predictive(x).weights, output.weights)


@pytest.mark.parametrize(
    ("level", "size", "width"), [("encoder_0", 16, 4), ("encoder_1", 8, 6), ("encoder_2", 4, 8), (0, 4, 8), (1, 8, 6)]
)
def test_the_gate_reads_the_level_that_it_is_given(level, size, width):
    net = network(channels=(4, 6, 8), gating_level=level)
    features = net.backbone(torch.randn(2, 2, 16, 16))
    assert features[0].shape == (2, width, size, size)
    encoder = net.backbone.encoder(torch.randn(2, 2, 16, 16))
    assert isinstance(level, int) or encoder[int(level[-1])].shape == features[0].shape
    assert net.gate(torch.randn(2, 2, 16, 16)).shape == (2, 3)


def test_a_deviation_stays_within_its_bounds():
    net = network()
    nn.init.constant_(net.raw_log_std, -1e4)
    torch.testing.assert_close(net.prior_log_std(), torch.full((3,), -5.0))


def test_the_backbone_runs_once_per_image_and_the_head_once_per_sample():
    net = network().eval()
    calls = {"backbone": 0, "head": 0}
    for name in calls:
        net.get_submodule(name).register_forward_hook(
            lambda module, inputs, output, name=name: calls.__setitem__(name, calls[name] + 1)
        )
    predictive = net.predictive(torch.randn(2, 2, 8, 8))
    predictive.sample_logits(6)
    assert calls == {"backbone": 1, "head": 6}
    predictive.mode_logits()
    assert calls == {"backbone": 1, "head": 9}
    net(torch.randn(2, 2, 8, 8))
    assert calls == {"backbone": 2, "head": 10}


def test_training_and_inference_decode_alike():
    net = network().eval()
    image = torch.randn(2, 2, 8, 8)
    nn.init.constant_(net.raw_log_std, -1e4)
    net.prior_mean.data *= 100  # against which the smallest deviation is nothing
    predictive = net.predictive(image)
    output = net(image)
    scale = output.logits.abs().max()
    torch.testing.assert_close(predictive.sample_logits(6) / scale, output.logits / scale, atol=1e-3, rtol=0)
    torch.testing.assert_close(predictive.weights, output.weights)
    torch.testing.assert_close(net.gate(image), output.weights[:, ::2] * 2)


def segresnet(spatial_dims: int) -> tuple[nn.Module, int, int]:
    net = SegResNet(spatial_dims, init_filters=8, blocks_down=(1, 1, 1), blocks_up=(1, 1), in_channels=2)
    return LayerFeatures(net, "down_layers.2", "conv_final.2"), 32, 8


def flexible_unet(spatial_dims: int) -> tuple[nn.Module, int, int]:
    net = FlexibleUNet(2, 3, "resnet10", spatial_dims=spatial_dims, decoder_channels=(16, 16, 16, 8, 8))
    return LayerFeatures(net, "encoder", "segmentation_head"), 512, 8


def one_map(spatial_dims: int) -> tuple[nn.Module, int, int]:
    return BilinearUNet(spatial_dims, 2, None, (8, 12)), 8, 8


@pytest.mark.parametrize("backbone", [segresnet, flexible_unet, one_map])
@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_any_backbone(backbone, spatial_dims):
    net = MixtureOfStochasticExperts(
        *backbone(spatial_dims), 3, num_experts=2, num_samples=2, latent_dim=3, spatial_dims=spatial_dims
    )
    image = torch.randn(2, 2, *[32] * spatial_dims)
    output = net(image)
    assert output.logits.shape == (2, 4, 3, *image.shape[2:])
    (output.logits.square().mean() + output.weights[:, 0].sum()).backward()
    assert all(p.grad is not None for p in net.gating.parameters())
    assert net.eval().predictive(image).sample_logits(4).shape == output.logits.shape


def test_a_head_of_ones_own_reads_what_the_backbone_gives_beside():
    class Backbone(nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
            return x, x, 10 * x

    class Head(nn.Module):
        def forward(self, x: torch.Tensor, beside: torch.Tensor) -> torch.Tensor:
            return torch.cat([x, beside], dim=1)

    net = MixtureOfStochasticExperts(Backbone(), 1, 1, 2, num_experts=2, num_samples=3, spatial_dims=2, head=Head())
    image = torch.randn(2, 1, 4, 4)
    torch.testing.assert_close(net(image).logits[:, :, 1], 10 * image.expand(2, 6, 4, 4))


def mixture(num_samples: int | None = None) -> ExpertMixtureDistribution:
    """The latent itself as logits of two classes."""
    return ExpertMixtureDistribution(GATE, MEAN, LOG_STD, lambda z: torch.cat([z, -z], 1)[:, :, None], num_samples)


def test_compact_samples_are_those_of_the_experts_in_order():
    distribution = mixture(500)
    torch.testing.assert_close(distribution.weights, GATE.repeat_interleave(500, dim=1) / 500)
    latents = distribution.sample_logits(1000, generator())[:, :, 0, 0]
    for k, expert in enumerate(latents.chunk(2, dim=1)):
        torch.testing.assert_close(expert.mean(1), MEAN[k].expand(2), atol=0.1, rtol=0)
        torch.testing.assert_close(expert.std(1), LOG_STD[k].exp().expand(2), atol=0.05, rtol=0)
    assert torch.stack([latents[0, :500], latents[1, :500]]).corrcoef()[0, 1].abs() < 0.2


def test_both_representations_are_one_distribution():
    samples = mixture().sample_logits(4000, generator())
    assert mixture().weights is None
    compact, weights = mixture(500).sample_logits(1000, generator(1)), mixture(500).weights
    for moment in (lambda z: z, torch.square, lambda z: (z > 2).float(), lambda z: (z < -3).float()):
        one = moment(samples[:, :, 0, 0]).mean(1)
        two = (weights * moment(compact[:, :, 0, 0])).sum(1)
        torch.testing.assert_close(one, two, atol=0.15, rtol=0.05)
    first = (samples[:, :, 0, 0] < -1).float()
    torch.testing.assert_close(first.mean(1), GATE[:, 0], atol=0.03, rtol=0)
    assert first.corrcoef()[0, 1].abs() < 0.06  # the items draw their experts by themselves


def test_draws_replay_and_the_chunks_of_a_standard_draw_equal_the_whole():
    predictive = network(representation="standard").eval().predictive(batch(2)[0])
    whole = predictive.sample_logits(5, generator(7))
    g = generator(7)
    chunks = torch.cat([predictive.sample_logits(n, g) for n in (2, 1, 2)], dim=1)
    torch.testing.assert_close(whole, chunks, rtol=0, atol=0)
    compact = network().eval().predictive(batch(2)[0])
    one, two, other = (compact.sample_logits(6, generator(seed)) for seed in (7, 7, 8))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


def test_the_mode_is_the_mean_of_the_experts_probabilities():
    experts = torch.cat([MEAN, -MEAN], 1).softmax(1)  # [K, C]
    torch.testing.assert_close(mixture().mode_logits().exp()[..., 0], GATE @ experts)
    sure = ExpertMixtureDistribution(torch.eye(2), MEAN, LOG_STD, mixture()._decoder)
    torch.testing.assert_close(sure.mode_logits().exp()[..., 0], experts)


def test_weighted_samples_are_drawn_whole_and_weigh_in_the_marginals():
    distribution = mixture(3)
    samples = draw_samples(distribution, 6, generator(), chunk_size=1)
    logits = distribution.sample_logits(6, generator())
    assert torch.equal(samples.labels.long(), logits.argmax(2))
    assert torch.equal(samples.weights, distribution.weights)
    expected = (logits.softmax(2) * distribution.weights[:, :, None, None]).sum(1)
    torch.testing.assert_close(samples.probabilities, expected)


@pytest.mark.parametrize("representation", ["compact", "standard"])
def test_the_evaluator_writes_the_weights(representation):
    image, label = batch(2)
    items = [{"image": i, "label": y} for i, y in zip(image, label, strict=True)]
    net = network(representation=representation).eval()
    metric = GeneralizedEnergyDistanceMetric(3)
    ged = IgniteMetricHandler(metric_fn=metric, output_transform=from_engine(["samples", "label"]))
    evaluator = StochasticEvaluator(
        "cpu",
        DataLoader(Dataset(items), batch_size=4),
        net,
        num_samples=6,
        key_val_metric={"ged": ged},
    )
    evaluator.run()
    output = evaluator.state.output
    for item, gate in zip(output, net.gate(image), strict=True):
        assert item["samples"].shape == (6, *image.shape[2:])
        assert ("sample_weights" in item) == (representation == "compact")
        if representation == "compact":
            torch.testing.assert_close(item["sample_weights"], gate.repeat_interleave(2) / 2)
        torch.testing.assert_close(item["probabilities"].sum(0), torch.ones(image.shape[2:]))
    samples = torch.stack([item["samples"] for item in output])
    weights = net.gate(image).repeat_interleave(2, dim=1) / 2 if representation == "compact" else None
    expected = compute_generalized_energy_distance(samples, label, 3, y_pred_weights=weights).mean()
    assert evaluator.state.metrics["ged"] == pytest.approx(expected.item(), abs=1e-5)


def experts(**kwargs) -> MixtureOfStochasticExperts:
    arguments = {"global_channels": 2, "feature_channels": 2, "out_channels": 2, "spatial_dims": 2}
    return MixtureOfStochasticExperts(nn.Identity(), **{**arguments, **kwargs})


@pytest.mark.parametrize("given", [True, False])
def test_windows_share_the_noise_and_with_a_given_gate_the_expert(given):
    net = experts(global_channels=1, feature_channels=1, num_experts=2, representation="standard")
    net.gating = nn.Linear(1, 2, bias=False)
    net.gating.weight.data = torch.tensor([[50.0], [-50.0]])  # the first expert's where the mean is positive
    net.prior_mean.data = torch.tensor([[-10.0], [10.0]])
    seen: list[float] = []
    net.injection.register_forward_hook(lambda module, inputs, output: seen.append(inputs[1].item()))
    image = torch.ones(1, 1, 8, 16)
    image[..., 8:] = -1
    inferer = PredictiveInferer(SlidingWindowInferer(8, overlap=0))
    gate = {"gate": torch.tensor([[0.5, 0.5]])} if given else {}
    inferer(image, net, **gate).sample_logits(20, generator())
    left, right = torch.tensor(seen).chunk(2)
    assert left.unique().numel() == 20
    if given:
        assert torch.equal(left, right)
        assert 0 < (left > 0).sum() < 20
    else:
        assert (left < 0).all()
        torch.testing.assert_close(left + 20, right)


def test_windows_refuse_compact_samples():
    inferer = PredictiveInferer(SlidingWindowInferer(8, overlap=0))
    with pytest.raises(ValueError, match="the samples of a window carry weights"):
        inferer(torch.randn(1, 2, 16, 16), network().eval()).sample_logits(6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: network(num_experts=0), "num_experts must be at least 1, got 0"),
        (lambda: network(num_samples=0), "num_samples must be at least 1, got 0"),
        (lambda: network(latent_dim=0), "latent_dim must be at least 1, got 0"),
        (lambda: network(prior_std=-0.1), r"prior_std must be 0 or lie between exp\(-5\) and exp\(5\), got -0.1"),
        (lambda: network(prior_std=1e3), r"prior_std must be 0 or lie between exp\(-5\) and exp\(5\), got 1000.0"),
        (lambda: network(representation="sparse"), r"one of \('compact', 'standard'\), got 'sparse'"),
        (lambda: network(gating_level=2), r"gating_level must lie in \[-2, 1\], got 2"),
        (lambda: network(gating_level="encoder_2"), r"gating_level must be one of .*'encoder_1'\), got 'encoder_2'"),
        (lambda: network(injection_level=-3), r"injection_level must lie in \[-2, 1\], got -3"),
        (lambda: network(gating_level=1, injection_level=0), "must not lie after injection_level, got 1 and 0"),
        (lambda: experts(out_channels=1), "out_channels counts the background and must be at least 2, got 1"),
        (lambda: experts(spatial_dims=4), "spatial_dims must be 2 or 3, got 4"),
        (lambda: experts(global_channels=0), "global_channels must be at least 1, got 0"),
        (lambda: experts(feature_channels=0), "feature_channels must be at least 1, got 0"),
        (lambda: experts(global_channels=3)(torch.ones(2, 2, 4, 4)), "gave 2 channels, global_channels=3"),
        (lambda: experts(feature_channels=3)(torch.ones(2, 2, 4, 4)), "gave 2 channels, feature_channels=3"),
        (lambda: mixture(4).sample_logits(6), "2 experts of 4 samples each, 8 in all: n=6"),
        (lambda: mixture().sample_logits(0), "n must be at least 1, got 0"),
        (lambda: mixture(0), "num_samples must be at least 1, got 0"),
        (
            lambda: ExpertMixtureDistribution(GATE[:, :1], MEAN, LOG_STD, id),
            r"\[B, K\] of mean .*, \(2, 2\), got \(2, 1\)",
        ),
        (lambda: ExpertMixtureDistribution(2 * GATE, MEAN, LOG_STD, id), "gate must not be negative and sum to 1"),
    ],
)
def test_rejects(make, message):
    with pytest.raises(ValueError, match=message):
        make()
