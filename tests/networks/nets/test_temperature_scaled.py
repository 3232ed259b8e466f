# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from monai.inferers import SlidingWindowInferer
from torch import nn

from monai_stochseg.inferers import PredictiveInferer
from monai_stochseg.losses import fit_temperature
from monai_stochseg.networks.nets import (
    MixtureOfStochasticExpertsUNet,
    ProbabilisticUNet,
    TemperatureScaled,
)

SCALE, BIAS = [0.5, 2.0], [1.0, -1.0]


def scaled(logits: torch.Tensor, axis: int) -> torch.Tensor:
    one, two = logits.movedim(axis, 0)
    return torch.stack([0.5 * one + 1, 2 * two - 1], dim=axis)


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_a_deterministic_network(spatial_dims):
    network = (nn.Conv2d if spatial_dims == 2 else nn.Conv3d)(1, 2, 1)
    image = torch.randn(2, 1, *[6] * spatial_dims)
    net = TemperatureScaled(network, SCALE, BIAS)
    torch.testing.assert_close(net(image), scaled(network(image), 1))
    samples = net.predictive(image).sample_logits(2)
    torch.testing.assert_close(samples, scaled(network(image), 1)[:, None].expand_as(samples))
    windows = PredictiveInferer(SlidingWindowInferer([4] * spatial_dims))(image, net)
    torch.testing.assert_close(windows.mode_logits(), scaled(network(image), 1))


def test_a_network_that_is_sampled():
    network = ProbabilisticUNet(2, 1, 2, (2, 4), latent_dim=2)
    image = torch.randn(2, 1, 8, 8)
    net = TemperatureScaled(network, SCALE, BIAS)
    one, two = (n.predictive(image).sample_logits(3, torch.Generator().manual_seed(0)) for n in (net, network))
    torch.testing.assert_close(one, scaled(two, 2))
    torch.testing.assert_close(net(image), scaled(network.predictive(image).mode_logits(), 1))


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_under_autocast_and_fitted_to_four_images(spatial_dims):
    """A network that is too sure: the fitted scale makes its samples' probabilities the labels' frequency."""
    torch.manual_seed(0)
    image = torch.randn(4, 1, *[6] * spatial_dims)
    network = (nn.Conv2d if spatial_dims == 2 else nn.Conv3d)(1, 2, 1)
    nn.init.zeros_(network.weight)
    with torch.no_grad():
        network.bias.copy_(torch.tensor([0.0, 5.0]))
    label = (torch.arange(image.numel()).reshape(image.shape) % 4 > 0).long()  # three of four voxels
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = network(image)
        fitted = fit_temperature(logits, label)
        predictive = TemperatureScaled(network, fitted.scale.tolist(), fitted.bias.tolist()).predictive(image)
    for answer in (predictive.mode_logits(), predictive.sample_logits(2)[:, 1]):
        assert answer.dtype == torch.float32
        torch.testing.assert_close(answer.softmax(1)[:, 1], torch.full_like(answer[:, 1], 0.75), atol=1e-2, rtol=0)


def test_the_weights_of_samples_are_kept():
    network = MixtureOfStochasticExpertsUNet(2, 1, 2, (2, 4), num_experts=2, num_samples=2).eval()
    image = torch.randn(1, 1, 8, 8)
    distribution = TemperatureScaled(network, SCALE).predictive(image)
    torch.testing.assert_close(distribution.weights, network.predictive(image).weights)


def test_scale_and_bias_are_kept_with_the_weights():
    net = TemperatureScaled(nn.Conv2d(1, 2, 1), SCALE, BIAS)
    other = TemperatureScaled(nn.Conv2d(1, 2, 1), [1.0, 1.0])
    other.load_state_dict(net.state_dict())
    assert (other.scale.tolist(), other.bias.tolist()) == (SCALE, BIAS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scale": [1.0]}, "scale counts the background and must be at least 2, got 1"),
        ({"scale": [1.0, 0.0]}, r"scale\[1\] must be positive, got 0.0"),
        ({"bias": [1.0]}, r"scale and bias must hold one value for each class, got 2 and 1, \[1.0\]"),
    ],
)
def test_rejects_options(arguments, message):
    with pytest.raises(ValueError, match=message):
        TemperatureScaled(**{"network": nn.Conv2d(1, 2, 1), "scale": SCALE, **arguments})


def test_rejects_logits_of_other_classes():
    with pytest.raises(ValueError, match="scale has 3 classes, but the logits have 2"):
        TemperatureScaled(nn.Conv2d(1, 2, 1), [1.0] * 3)(torch.zeros(1, 1, 4, 4))
