# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch

from monai_stochseg.distributions import LowRankNormal, split_parameters


def normal(shape: tuple[int, ...] = (2, 3), batch: int = 2, classes: int = 3, rank: int = 4, **kwargs) -> LowRankNormal:
    generator = torch.Generator().manual_seed(1)
    parameters = torch.randn(batch, classes * (2 + rank), *shape, generator=generator, dtype=torch.float64)
    return LowRankNormal.from_parameters(parameters, classes, rank, **kwargs)


def covariance(distribution: LowRankNormal, item: int) -> torch.Tensor:
    factor = distribution.cov_factor[item].flatten(1)
    return factor.T @ factor + distribution.log_diag[item].flatten().exp().diag()


@pytest.mark.parametrize("shape", [(2, 2), (1, 2, 2)])
@pytest.mark.parametrize("antithetic", [False, True])
def test_samples_have_the_mean_and_the_covariance(shape, antithetic):
    distribution = normal(shape)
    samples = distribution.rsample(20000, antithetic=antithetic, generator=torch.Generator().manual_seed(0))
    assert samples.shape == (2, 20000, 3, *shape)
    flat = samples[1].flatten(1)
    expected = covariance(distribution, 1)
    scale = expected.diag().sqrt()
    torch.testing.assert_close(flat.mean(0), distribution.mean[1].flatten(), atol=0.1, rtol=0)
    difference = (torch.cov(flat.T) - expected) / (scale[:, None] * scale)
    assert difference.abs().max() < 0.05


def test_variance_is_the_diagonal_of_the_covariance():
    distribution = normal()
    torch.testing.assert_close(distribution.variance()[0].flatten(), covariance(distribution, 0).diag())


@pytest.mark.parametrize("n", [1, 2, 5])
def test_antithetic_samples_mirror_each_other(n):
    distribution = normal()
    samples = distribution.rsample(n, antithetic=True)
    assert samples.shape[1] == n
    for i in range(0, n - 1, 2):
        torch.testing.assert_close(samples[:, i] + samples[:, i + 1], 2 * distribution.mean)


def test_draws_replay_and_chunks_equal_the_whole():
    distribution = normal()
    whole = distribution.sample_logits(5, torch.Generator().manual_seed(7))
    torch.testing.assert_close(whole, distribution.sample_logits(5, torch.Generator().manual_seed(7)), rtol=0, atol=0)
    generator = torch.Generator().manual_seed(7)
    chunks = torch.cat([distribution.sample_logits(n, generator) for n in (2, 1, 2)], dim=1)
    torch.testing.assert_close(whole, chunks, rtol=0, atol=0)
    assert not torch.equal(whole[:, 0], whole[:, 1])


def test_gradients_reach_every_parameter():
    parameters = torch.randn(1, 3 * 6, 2, 2, dtype=torch.float64, requires_grad=True)

    def draw(p: torch.Tensor) -> torch.Tensor:
        return LowRankNormal.from_parameters(p, 3, 4).rsample(3, generator=torch.Generator().manual_seed(0))

    assert torch.autograd.gradcheck(draw, parameters)
    (grad,) = torch.autograd.grad(draw(parameters).square().sum(), parameters)
    assert (grad != 0).all()


@pytest.mark.parametrize("temperature", [-3.0, 0.0, 0.5, 3.0])
def test_temperature_scales_the_deviation(temperature):
    distribution = normal()
    seed = torch.Generator
    deviation = distribution.sample_logits(2, seed().manual_seed(0)) - distribution.mean[:, None]
    scaled = distribution.scaled(temperature=temperature).sample_logits(2, seed().manual_seed(0))
    torch.testing.assert_close(scaled - distribution.mean[:, None], temperature * deviation)


def test_class_and_rank_scales():
    distribution = normal()
    generator = torch.Generator().manual_seed(0)
    one_class = distribution.scaled(class_scale=[0.0, 2.0, 1.0]).sample_logits(1, generator)
    torch.testing.assert_close(one_class[:, 0, 0], distribution.mean[:, 0])
    without_factor = distribution.scaled(rank_scale=torch.zeros(4))
    torch.testing.assert_close(without_factor.variance(), distribution.log_diag.exp())
    twice = distribution.scaled(temperature=2.0).scaled(temperature=1.5)
    torch.testing.assert_close(twice.variance(), 9 * distribution.variance())
    torch.testing.assert_close(normal().variance(), distribution.variance())  # the original is left as it was


def test_outside_the_mask_samples_are_background():
    mask = torch.zeros(2, 1, 2, 3)
    mask[..., :1] = 1
    distribution = normal(mask=mask)
    samples = distribution.sample_logits(50)
    outside = (mask == 0).expand(2, 50, 2, 3)
    assert (samples.argmax(2)[outside] == 0).all()
    assert (samples.argmax(2)[~outside] != 0).any()
    torch.testing.assert_close(
        distribution.variance()[mask.expand(2, 3, 2, 3) == 0], torch.full((2 * 3 * 4,), 1e-5, dtype=torch.float64)
    )
    inside, unmasked = (d.variance()[mask.expand(2, 3, 2, 3) == 1] for d in (distribution, normal()))
    torch.testing.assert_close(inside, unmasked)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    distribution = LowRankNormal.from_parameters(torch.randn(1, 8, 4, 4).to(dtype), 2, 2)
    assert distribution.sample_logits(1).dtype == torch.float32


def test_split_parameters_order():
    parameters = torch.arange(8.0).reshape(1, 8, 1, 1)
    mean, log_diag, factor = split_parameters(parameters, 2, 2)
    assert mean.flatten().tolist() == [0, 1]
    assert log_diag.flatten().tolist() == [2, 3]
    assert factor[0, :, :, 0, 0].tolist() == [[4, 5], [6, 7]]  # [R, C]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: split_parameters(torch.zeros(1, 9, 2, 2), 2, 2), r"= 8 channels"),
        (
            lambda: LowRankNormal(torch.zeros(1, 2, 3), torch.zeros(1, 4, 2, 3), torch.zeros(1, 2, 4)),
            "log_diag must have",
        ),
        (
            lambda: LowRankNormal(torch.zeros(1, 2, 3), torch.zeros(1, 4, 3, 3), torch.zeros(1, 2, 3)),
            "cov_factor must be",
        ),
        (lambda: normal(mask=torch.ones(2, 2, 2, 3)), r"mask must be \[B, 1, \*S\]"),
        (lambda: normal().sample_logits(0), "n must be at least 1, got 0"),
        (lambda: normal().scaled(class_scale=[1.0]), "class_scale must hold 3 values"),
        (lambda: normal().scaled(rank_scale=[1.0]), "rank_scale must hold 4 values"),
    ],
)
def test_rejects(make, message):
    with pytest.raises(ValueError, match=message):
        make()
