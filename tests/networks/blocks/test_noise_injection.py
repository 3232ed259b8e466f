# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch

from monai_stochseg.networks.blocks import NoiseInjection


def test_the_formula_by_hand():
    block = NoiseInjection(2, 2)
    block.residual.weight.data = torch.tensor([[1.0, 0.0], [2.0, 1.0]])
    block.scale.weight.data = torch.tensor([[0.0, 1.0], [1.0, -1.0]])
    features = torch.tensor([3.0, 5.0]).reshape(1, 2, 1, 1)
    noise = torch.tensor([[[1.0, 2.0], [-1.0, 0.5]]])
    expected = [
        [(3 + 1) * 2, (5 + 2 + 2) * (1 - 2)],
        [(3 - 1) * 0.5, (5 - 2 + 0.5) * (-1 - 0.5)],
    ]
    assert block(features, noise).flatten(1).tolist() == expected


@pytest.mark.parametrize("size", [(4, 5), (3, 4, 2)])
def test_samples_share_the_features_of_their_item(size):
    block = NoiseInjection(6, 3, bias=True)
    features, noise = torch.randn(2, 6, *size), torch.randn(2, 5, 3)
    result = block(features, noise)
    assert result.shape == (10, 6, *size)
    residual, scale = (
        linear(noise).reshape(2, 5, 6, *[1] * len(size)).expand(2, 5, 6, *size)
        for linear in (block.residual, block.scale)
    )
    torch.testing.assert_close(result.unflatten(0, (2, 5)), (features[:, None] + residual) * scale)
    own = block(features.repeat_interleave(5, dim=0), noise.reshape(10, 1, 3))
    torch.testing.assert_close(result, own)


def test_gradients_reach_features_noise_and_weights():
    block = NoiseInjection(3, 2, bias=True).double()
    features, noise = (
        torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in ((2, 3, 2, 2), (2, 4, 2))
    )
    assert torch.autograd.gradcheck(block, (features, noise))
    block(features, noise).sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in block.parameters())


def test_with_biases_no_noise_leaves_the_features():
    features = torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(NoiseInjection(3, 2, bias=True)(features, torch.zeros(2, 1, 2)), features)


@pytest.mark.parametrize("latent_dim", [1, 8])
def test_residual_and_scale_start_with_unit_variance(latent_dim):
    torch.manual_seed(0)
    block = NoiseInjection(500, latent_dim)
    noise = torch.randn(500, latent_dim)
    for linear in (block.residual, block.scale):
        assert linear(noise).std().item() == pytest.approx(1, rel=0.1)


def test_float32_under_autocast():
    block, noise = NoiseInjection(2, 1), torch.tensor([[[1.0], [1.001]]])  # one number in bfloat16
    with torch.autocast("cpu", dtype=torch.bfloat16):
        one, two = block(torch.ones(1, 2, 4, 4, dtype=torch.bfloat16), noise)
    assert one.dtype == torch.float32
    assert not torch.equal(one, two)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: NoiseInjection(0, 1), "feature_channels must be at least 1, got 0"),
        (lambda: NoiseInjection(1, 0), "latent_dim must be at least 1, got 0"),
        (lambda: NoiseInjection(3, 1)(torch.ones(2, 4, 5, 5), torch.ones(2, 1, 1)), "must have 3 channels, got 4"),
        (lambda: NoiseInjection(3, 1)(torch.ones(2, 3, 5, 5), torch.ones(2, 1)), r"\[2, N, 1\], got \(2, 1\)"),
        (lambda: NoiseInjection(3, 1)(torch.ones(2, 3, 5, 5), torch.ones(1, 1, 1)), r"\[2, N, 1\], got \(1, 1, 1\)"),
        (lambda: NoiseInjection(3, 2)(torch.ones(2, 3, 5, 5), torch.ones(2, 1, 1)), r"\[2, N, 2\], got \(2, 1, 1\)"),
    ],
)
def test_rejects(make, message):
    with pytest.raises(ValueError, match=message):
        make()
