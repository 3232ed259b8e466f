# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from monai_stochseg.networks.nets import RefinementNetwork

CLASSES, LATENT = 3, 4


def network(spatial_dims: int = 2, **kwargs) -> RefinementNetwork:
    torch.manual_seed(0)
    arguments = {"latent_dim": LATENT, "channels": (6, 8, 10), **kwargs}
    return RefinementNetwork(spatial_dims, 2, CLASSES, **arguments)


def batch(*shape: int, items: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    image = torch.randn(items, 2, *shape)
    return image, torch.randn(items, CLASSES, *shape).softmax(1)


@pytest.mark.parametrize("shape", [(16, 24), (17, 9), (8, 11, 10)])
@pytest.mark.parametrize("probabilistic", [False, True])
def test_shapes_and_gradients(shape, probabilistic):
    net = network(len(shape), probabilistic_encoder=probabilistic)
    image, calibration = batch(*shape)
    output = net(image, calibration, num_samples=3)
    assert output.logits.shape == (2, 3, CLASSES, *shape)
    assert torch.equal(output.calibration, calibration)
    assert output.mean.shape == output.log_std.shape == (2, LATENT)
    assert output.mean.any() == output.log_std.any() == probabilistic
    # batch norm takes away the bias before it: its gradient is rounding, but it is there
    output.logits.square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    for block in net.decoder:
        assert block.injection.residual.weight.grad.any()
        assert block.injection.scale.weight.grad.any()
    if probabilistic:
        assert net.code.weight.grad.any()


def test_the_papers_network_is_the_default():
    net = RefinementNetwork(2, 1, 2)
    assert [level.conv.weight.shape[:2] for level in net.encoder] == [(32, 3), (64, 32), (128, 64), (256, 128)]
    assert all(level.conv.stride == (2, 2) for level in net.encoder)
    assert [block.up.conv.weight.shape[:2] for block in net.decoder] == [(256, 128), (256, 64), (128, 32), (64, 32)]
    assert [block.injection.feature_channels for block in net.decoder] == [128, 64, 32, 32]
    assert {m.p for m in net.modules() if isinstance(m, nn.Dropout)} == {0.1}


@pytest.mark.parametrize("probabilistic", [False, True])
def test_the_encoder_runs_once_per_image(probabilistic):
    net, sizes = network(probabilistic_encoder=probabilistic), {"encoder.0": [], "encoder.2": [], "final": []}
    for name, own in sizes.items():
        net.get_submodule(name).register_forward_hook(lambda module, inputs, output, own=own: own.append(len(output)))
    net(*batch(16, 16), num_samples=5)
    assert sizes == {"encoder.0": [2], "encoder.2": [2], "final": [10]}


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize("channels", [(6,), (6, 8), (6, 8, 10)])
def test_a_sample_is_that_of_its_image_and_its_code(spatial_dims, channels):
    """All samples at once are the samples one by one: neither images nor codes are mixed up on the batch axis."""
    net = network(spatial_dims, channels=channels).eval()
    image, calibration = batch(*[9] * spatial_dims)
    codes = torch.randn(2, 3, LATENT)
    logits = net.decode(net.encode(image, calibration), codes)
    for i in range(2):
        features = net.encode(image[i : i + 1], calibration[i : i + 1])
        for j in range(3):
            alone = net.decode(features, codes[i : i + 1, j : j + 1])
            torch.testing.assert_close(alone[0, 0], logits[i, j])
    assert not torch.allclose(logits[:, 0], logits[:, 1], atol=1e-2)


def test_codes_are_standard_normal_or_the_encoders():
    net, seen = network(probabilistic_encoder=True), []
    net.decoder[0].injection.register_forward_hook(lambda module, inputs, output: seen.append(inputs[1]))
    nn.init.zeros_(net.code.weight)
    net.code.bias.data = torch.tensor([1.0, -1.0, 0.0, 2.0, -1.0, 0.0, 1.0, -1e4])
    output = net(*batch(8, 8), num_samples=2000, generator=torch.Generator().manual_seed(0))
    log_std = 5 * torch.tanh(torch.tensor([-0.2, 0.0, 0.2, -2e3]))
    torch.testing.assert_close(output.mean, torch.tensor([1.0, -1.0, 0.0, 2.0]).expand(2, -1))
    torch.testing.assert_close(output.log_std, log_std.expand(2, -1))
    torch.testing.assert_close(seen[0].mean(1), output.mean, atol=0.2, rtol=0)
    torch.testing.assert_close(seen[0].std(1), output.log_std.exp(), atol=0, rtol=0.1)
    plain = network()
    plain.decoder[0].injection.register_forward_hook(lambda module, inputs, output: seen.append(inputs[1]))
    plain(*batch(8, 8), num_samples=2000)
    torch.testing.assert_close(seen[1].mean(1), torch.zeros(2, LATENT), atol=0.1, rtol=0)
    torch.testing.assert_close(seen[1].std(1), torch.ones(2, LATENT), atol=0.1, rtol=0)


def test_draws_replay_from_the_generator():
    net, data = network().eval(), batch(8, 8)
    one, two, other = (net(*data, 3, torch.Generator().manual_seed(seed)).logits for seed in (7, 7, 8))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_overfits_four_images(spatial_dims):
    net = network(spatial_dims, dropout=0.0)
    image = F.interpolate(torch.randn(4, 2, *[4] * spatial_dims), scale_factor=4 if spatial_dims == 2 else 2)
    label = (image[:, 0] > 0).long() + (image[:, 1] > 0.5).long()
    calibration = torch.full((4, CLASSES, *image.shape[2:]), 1 / CLASSES)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    for _ in range(150):
        optimizer.zero_grad()
        logits = net(image, calibration, num_samples=2).logits
        F.cross_entropy(logits.flatten(0, 1), label.repeat_interleave(2, dim=0)).backward()
        optimizer.step()
    prediction = net.eval()(image, calibration, num_samples=4).logits.argmax(2)
    assert (prediction == label[:, None]).float().mean() > 0.9


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_training_step_under_autocast(spatial_dims):
    net = network(spatial_dims, probabilistic_encoder=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = net(*batch(*[8] * spatial_dims), num_samples=2)
    assert all(x.dtype == torch.float32 for x in output)
    output.logits.square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"spatial_dims": 1}, "spatial_dims must be 2 or 3, got 1"),
        ({"in_channels": 0}, "in_channels must be at least 1, got 0"),
        ({"out_channels": 1}, "out_channels counts the background and must be at least 2, got 1"),
        ({"latent_dim": 0}, "latent_dim must be at least 1, got 0"),
        ({"channels": ()}, "channels must be one or more positive integers"),
        ({"dropout": -0.1}, r"dropout must lie in \[0, 1\), got -0.1"),
    ],
)
def test_rejects_options(arguments, message):
    with pytest.raises(ValueError, match=message):
        RefinementNetwork(**{"spatial_dims": 2, "in_channels": 1, "out_channels": 2, **arguments})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda x, c: (x, c[:, :2]),
            r"must be \[B, C, \*S\] = \(2, 3, 8, 8\) .*, with the refinement's out_channels=3",
        ),
        (lambda x, c: (x, c[..., 1:]), r"got \(2, 3, 8, 7\)"),
        (lambda x, c: (x[..., :7], c[..., :7]), r"3 halvings need at least 8 .* got an image of \(8, 7\): pad it"),
        (lambda x, c: (x, c, 0), "num_samples must be at least 1, got 0"),
    ],
)
def test_rejects_inputs(change, message):
    with pytest.raises(ValueError, match=message):
        network()(*change(*batch(8, 8)))
