# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor
from monai.inferers import SlidingWindowInferer
from monai.networks.nets import UNet
from torch import nn
from torch.nn import functional as F

from monai_stochseg.inferers import PredictiveInferer, draw_samples
from monai_stochseg.losses import CalibrationLoss, DiscriminatorLoss, LogitAdversarialLoss
from monai_stochseg.networks.nets import (
    BlackBoxCalibrationNetwork,
    CalibratedAdversarialRefinement,
    CalibrationNetwork,
    RefinementDiscriminator,
    RefinementNetwork,
)

CLASSES, LATENT = 3, 4


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def refinement(spatial_dims: int = 2, **kwargs) -> RefinementNetwork:
    arguments = {"latent_dim": LATENT, "channels": (6, 8), **kwargs}
    return RefinementNetwork(spatial_dims, 1, CLASSES, **arguments)


def network(spatial_dims: int = 2, **kwargs) -> CalibratedAdversarialRefinement:
    torch.manual_seed(0)
    calibration = CalibrationNetwork(spatial_dims, 1, CLASSES, channels=(4, 6), num_convs=(1, 1), dropout=0.5)
    return CalibratedAdversarialRefinement(calibration, refinement(spatial_dims, **kwargs))


@pytest.mark.parametrize("shape", [(8, 12), (9, 7), (5, 8, 6)])
@pytest.mark.parametrize("probabilistic", [False, True])
def test_shapes(shape, probabilistic):
    net = network(len(shape), probabilistic_encoder=probabilistic)
    image = MetaTensor(torch.randn(2, 1, *shape))
    output = net(image, num_samples=3)
    assert output.logits.shape == (2, 3, CLASSES, *shape)
    torch.testing.assert_close(output.calibration.sum(1), torch.ones(2, *shape))
    predictive = net.eval().predictive(image)
    assert predictive.weights is None
    assert predictive.mode_logits().shape == (2, CLASSES, *shape)
    assert predictive.entropy().shape == (2, 1, *shape)
    samples = predictive.sample_logits(3)
    assert samples.shape == (2, 3, CLASSES, *shape)
    assert not samples.requires_grad


def test_the_calibration_network_is_frozen():
    net, image = network(), torch.randn(2, 1, 8, 8)
    for _ in range(2):
        assert not any(module.training for module in net.calibration.modules())
        assert all(module.training for module in net.refinement.modules())
        net.eval().train()
    before = {name: value.clone() for name, value in net.calibration.state_dict().items()}
    optimizer = torch.optim.Adam(net.parameters(), lr=0.1)
    output = net(image, num_samples=2)
    assert not output.calibration.requires_grad
    output.logits.square().mean().backward()
    optimizer.step()
    assert all(p.grad is None for p in net.calibration.parameters())
    assert all(torch.equal(value, before[name]) for name, value in net.calibration.state_dict().items())
    assert all(p.grad is not None for p in net.refinement.parameters())
    assert torch.equal(net(image, num_samples=1).calibration, output.calibration)  # nor has dropout moved it
    assert not any(module.training for module in net.eval().modules())


def test_the_single_answer_is_the_calibration_output():
    net, image = network().eval(), torch.randn(2, 1, 8, 8)
    logits = net.calibration(image)
    predictive = net.predictive(image)
    torch.testing.assert_close(predictive.mode_logits(), logits.log_softmax(1))
    torch.testing.assert_close(predictive.calibration_output(), logits.softmax(1))
    torch.testing.assert_close(predictive.entropy(), -(logits.softmax(1) * logits.log_softmax(1)).sum(1, keepdim=True))
    torch.testing.assert_close(net.calibration_logits(image), logits)
    torch.testing.assert_close(net(image).calibration, logits.softmax(1))


def test_an_impossible_class_has_no_entropy():
    class Sure(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.tensor([0.0, -1e4, -1e4]).reshape(1, 3, 1, 1).expand(len(x), 3, *x.shape[2:])

    net = CalibratedAdversarialRefinement(Sure(), refinement()).eval()
    assert (net.predictive(torch.randn(1, 1, 8, 8)).entropy() == 0).all()


@pytest.mark.parametrize("probabilistic", [False, True])
def test_draws_replay_and_chunks_equal_the_whole(probabilistic):
    predictive = network(probabilistic_encoder=probabilistic).eval().predictive(torch.randn(2, 1, 8, 8))
    whole, other = (predictive.sample_logits(5, generator(seed)) for seed in (7, 8))
    g = generator(7)
    chunks = torch.cat([predictive.sample_logits(n, g) for n in (2, 1, 2)], dim=1)
    torch.testing.assert_close(whole, chunks, rtol=0, atol=0)
    assert not torch.equal(whole, other)


def test_training_and_inference_decode_alike():
    net, image = network(probabilistic_encoder=True).eval(), torch.randn(2, 1, 8, 8)
    nn.init.zeros_(net.refinement.code.weight)
    net.refinement.code.bias.data = torch.tensor([100.0, -100, 50, 200, *[-1e4] * 4])  # against which noise is nothing
    logits = net(image, num_samples=3).logits
    scale = logits.abs().max()
    torch.testing.assert_close(net.predictive(image).sample_logits(3) / scale, logits / scale, atol=1e-3, rtol=0)


def test_both_networks_run_once_per_image_and_the_decoder_once_per_sample():
    net, calls = network().eval(), {"calibration": 0, "refinement.encoder.0": 0, "refinement.final": 0}
    for name in calls:
        net.get_submodule(name).register_forward_hook(
            lambda module, inputs, output, name=name: calls.__setitem__(name, calls[name] + 1)
        )
    predictive = net.predictive(torch.randn(2, 1, 8, 8))
    predictive.entropy(), predictive.mode_logits()
    assert calls == {"calibration": 1, "refinement.encoder.0": 1, "refinement.final": 0}
    predictive.sample_logits(5)
    assert calls == {"calibration": 1, "refinement.encoder.0": 1, "refinement.final": 5}
    net(torch.randn(2, 1, 8, 8), num_samples=5)
    assert calls == {"calibration": 2, "refinement.encoder.0": 2, "refinement.final": 6}


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_training_step_under_autocast(spatial_dims):
    net = network(spatial_dims)
    image = torch.randn(2, 1, *[8] * spatial_dims)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = net(image, num_samples=3)
        predictive = net.predictive(image)
    assert all(x.dtype == torch.float32 for x in output)
    CalibrationLoss()(output.logits.softmax(2), output.calibration).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.refinement.parameters())
    assert predictive.mode_logits().dtype == predictive.sample_logits(1).dtype == torch.float32


def test_samples_run_in_the_autocast_mode_of_the_inference():
    net, seen = network().eval(), []
    net.refinement.final.register_forward_hook(lambda *_: seen.append(torch.is_autocast_enabled("cpu")))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        predictive = net.predictive(torch.randn(1, 1, 8, 8))
    predictive.sample_logits(2)
    net.predictive(torch.randn(1, 1, 8, 8)).sample_logits(1)
    assert seen == [True, True, False]


def test_windows_of_a_volume_have_one_code_each_sample():
    net, seen = network(3).eval(), []
    net.refinement.decoder[0].injection.register_forward_hook(lambda module, inputs, output: seen.append(inputs[1]))
    inferer = PredictiveInferer(SlidingWindowInferer((8, 8, 8), sw_batch_size=1, overlap=0.0))
    samples = draw_samples(inferer(torch.randn(1, 1, 16, 8, 8), net), 2, generator(), chunk_size=2)
    assert samples.labels.shape == (1, 2, 16, 8, 8)
    first, second = seen[:2], seen[2:]
    assert all(torch.equal(one, two) for one, two in zip(first, second, strict=True))
    assert not torch.equal(first[0], first[1])


def test_a_black_box_or_a_network_of_monai_serves_as_calibration():
    black_box = UNet(2, 1, CLASSES, channels=(4, 8), strides=(2,))
    small = BlackBoxCalibrationNetwork(2, CLASSES, CLASSES, channels=4)
    for calibration in (black_box, nn.Sequential(black_box, nn.Softmax(1), small)):
        net = CalibratedAdversarialRefinement(calibration, refinement())
        image = torch.randn(2, 1, 8, 8)
        assert net(image, num_samples=2).logits.shape == (2, 2, CLASSES, 8, 8)
        assert not any(p.requires_grad for p in calibration.parameters())


def test_learns_two_answers_in_proportion():
    """
    Raters draw all of a square or, in 30 of 100 images, nothing: the adversarial loss makes each sample one of both,
    the calibration loss gives both their share.
    """
    torch.manual_seed(0)
    image = torch.zeros(1, 1, 8, 8)
    image[..., 2:6, 2:6] = 1

    class Calibration(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            p = 0.7 * x
            return torch.cat([1 - p, p], 1).clamp(min=1e-6).log()

    net = CalibratedAdversarialRefinement(Calibration(), RefinementNetwork(2, 1, 2, 2, (8, 16), dropout=0.0))
    critic = RefinementDiscriminator(2, 1, 2, (8, 16))
    optimizers = [torch.optim.Adam(m.parameters(), lr=3e-3, betas=(0.5, 0.99)) for m in (net.refinement, critic)]
    x = image.expand(8, -1, -1, -1)
    adversarial, calibration, discriminator = LogitAdversarialLoss(), CalibrationLoss(), DiscriminatorLoss()
    for _ in range(150):
        label = (x[:, 0] * (torch.rand(8) < 0.7)[:, None, None]).long()
        output = net(x, num_samples=6)
        samples = output.logits.softmax(2)
        fake = critic.requires_grad_(False)(x.repeat_interleave(6, dim=0), samples.flatten(0, 1))
        loss = 10 * adversarial(fake, True, for_discriminator=False) + 5 * calibration(samples, output.calibration)
        terms = discriminator(critic.requires_grad_(True), x, F.one_hot(label, 2).movedim(-1, 1).float(), samples[:, 0])
        for optimizer, value in zip(optimizers, (loss, terms.loss), strict=True):
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
    drawn = net.eval().predictive(image).sample_logits(200, generator()).argmax(2)[0, :, 2:6, 2:6].float().mean((1, 2))
    assert ((drawn > 0.9) | (drawn < 0.1)).float().mean() > 0.85
    assert (drawn > 0.5).float().mean() == pytest.approx(0.7, abs=0.1)


def test_refuses_other_classes_than_the_refinements():
    calibration = CalibrationNetwork(2, 1, CLASSES - 1, channels=(4,), num_convs=(1,))
    with pytest.raises(ValueError, match="the same classes, got out_channels=2 and 3"):
        CalibratedAdversarialRefinement(calibration, refinement())
    net = CalibratedAdversarialRefinement(nn.Sequential(calibration), refinement())  # says nothing of itself
    for use in (net, net.predictive):
        with pytest.raises(ValueError, match=r"must be \[B, C, \*S\] = \(1, 3, 8, 8\) .* got \(1, 2, 8, 8\)"):
            use(torch.zeros(1, 1, 8, 8))


def test_refuses_images_smaller_than_the_levels_allow():
    for use in (network(), network().predictive):
        with pytest.raises(ValueError, match="2 halvings need at least 4 voxels along each axis"):
            use(torch.zeros(1, 1, 3, 8))
