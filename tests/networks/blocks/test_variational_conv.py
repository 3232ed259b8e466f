# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch

from monai_stochseg.networks.blocks import VariationalConv
from monai_stochseg.networks.blocks.variational_conv import LOG_STD_BOUNDS


def make(spatial_dims: int, log_std: float = -1.0, **kwargs) -> VariationalConv:
    torch.manual_seed(0)
    return VariationalConv(spatial_dims, 3, 2, **{"log_std": log_std, **kwargs})


def features(spatial_dims: int, items: int = 1) -> torch.Tensor:
    return torch.randn(items, 3, *[4] * spatial_dims, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_local_reparameterisation_has_the_moments_of_explicit_weights(spatial_dims):
    """One voxel by itself: what its neighbours have in common is not drawn, and is not compared."""
    conv, x = make(spatial_dims), features(spatial_dims)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        local = torch.cat([conv(x.expand(500, *x.shape[1:]), generator) for _ in range(10)])
        weights = [conv.draw(generator) for _ in range(5000)]
        explicit = torch.cat([conv.given(x, weight) for weight in weights])
    torch.testing.assert_close(local.mean(0), explicit.mean(0), atol=0.25, rtol=0)
    torch.testing.assert_close(local.mean(0), conv.given(x)[0].detach(), atol=0.25, rtol=0)
    torch.testing.assert_close(local.var(0), explicit.var(0), atol=0.02, rtol=0.12)
    assert local.std(0).min() > 0.5  # or the tolerance would hide everything


def test_a_hand_computed_variance():
    """One weight of deviation 1/2 at an input of 3: a variance of (3 / 2)^2, and a mean of the weight's times 3."""
    conv = VariationalConv(2, 1, 1, kernel_size=1, log_std=-0.6931471805599453)
    with torch.no_grad():
        conv.conv.weight.fill_(2.0)
        conv.conv.bias.fill_(1.0)
        drawn = conv(torch.full((1, 1, 200, 200), 3.0), torch.Generator().manual_seed(0))
    assert drawn.mean().item() == pytest.approx(7, abs=0.05)
    assert drawn.var().item() == pytest.approx(9 / 4, rel=0.05)


def test_a_draw_of_the_weights_is_shared_by_all_places():
    conv = make(2)
    weight = conv.draw()
    same = conv.given(torch.ones(2, 3, 6, 6), weight)
    torch.testing.assert_close(same[0], same[1])
    torch.testing.assert_close(same[..., 2, 2], same[..., 3, 3])
    torch.testing.assert_close(conv.given(torch.ones(2, 3, 6, 6), weight), same)
    assert not torch.allclose(conv.given(torch.ones(2, 3, 6, 6)), same)  # of the means
    local = conv(torch.ones(2, 3, 6, 6))
    assert not torch.allclose(local[0], local[1])


def test_the_start_is_what_is_asked_for_and_deviations_are_bounded():
    conv = make(2, log_std=-5.0)
    torch.testing.assert_close(conv.weight.log_std, torch.full_like(conv.conv.weight, -5.0))
    for raw, bound in ((-1e4, LOG_STD_BOUNDS[0]), (1e4, LOG_STD_BOUNDS[1])):
        torch.nn.init.constant_(conv.raw_log_std, raw)
        torch.testing.assert_close(conv.weight.log_std, torch.full_like(conv.conv.weight, bound))


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_gradients_reach_both_and_are_finite_where_features_are_0(spatial_dims):
    conv, x = make(spatial_dims), features(spatial_dims)
    conv(torch.cat([x, torch.zeros_like(x)])).square().sum().backward()
    assert all(torch.isfinite(p.grad).all() and p.grad.abs().sum() > 0 for p in conv.parameters())


def test_under_autocast_all_is_float32():
    conv, x = make(2), 1e3 * features(2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = conv(x.bfloat16()), conv.given(x.bfloat16()), conv.given(x, conv.draw())
    assert all(output.dtype == torch.float32 and torch.isfinite(output).all() for output in outputs)


def test_draws_replay():
    conv, x = make(2), features(2)
    for draw in (lambda g: conv(x, g), conv.draw):
        one, two, other = (draw(torch.Generator().manual_seed(seed)) for seed in (3, 3, 4))
        assert torch.equal(one, two)
        assert not torch.equal(one, other)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kernel_size": 2}, "kernel_size must be odd, for the size to stay, got 2"),
        ({"log_std": 1.0}, "log_std must lie between -10.0 and 1.0, got 1.0"),
        ({"spatial_dims": 4}, "spatial_dims must be 2 or 3, got 4"),
        ({"in_channels": 0}, "in_channels must be at least 1, got 0"),
    ],
)
def test_rejects_options(arguments, message):
    with pytest.raises(ValueError, match=message):
        VariationalConv(**{"spatial_dims": 2, "in_channels": 3, "out_channels": 2, **arguments})


def test_rejects_inputs():
    conv = make(2)
    with pytest.raises(ValueError, match=r"x must have 3 channels, got \(1, 2, 4, 4\)"):
        conv(torch.ones(1, 2, 4, 4))
    with pytest.raises(ValueError, match=r"weight must be \(2, 3, 3, 3\), got \(2, 3, 1, 1\)"):
        conv.given(features(2), torch.ones(2, 3, 1, 1))
