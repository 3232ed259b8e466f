# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch

from monai_stochseg.distributions import DeterministicDistribution, IndependentDistribution, ThresholdDistribution
from monai_stochseg.inferers import draw_samples

NULLS = [ThresholdDistribution, IndependentDistribution]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("null", NULLS)
@pytest.mark.parametrize("shape", [(2, 2, 4, 5), (2, 3, 3, 4, 2)])
def test_samples_are_label_maps_with_the_marginals_of_the_logits(null: type, shape: tuple[int, ...]) -> None:
    logits = 2 * torch.randn(shape)
    distribution = null(logits)
    assert distribution.mode_logits() is logits
    assert distribution.weights is None
    samples = distribution.sample_logits(2000, generator())
    assert samples.shape == (shape[0], 2000, *shape[1:])
    softmax = samples.half().softmax(2)
    assert torch.equal(softmax.amax(2), torch.ones_like(softmax[:, :, 0]))
    # 5 standard errors of a frequency out of 2000
    torch.testing.assert_close(softmax.float().mean(1), logits.softmax(1), rtol=0, atol=5 * 0.5 / 2000**0.5)


@pytest.mark.parametrize("order", [None, (0, 1), (1, 0)])
def test_one_threshold_gives_nested_samples(order: tuple[int, ...] | None) -> None:
    logits = torch.randn(2, 2, 6, 6)
    labels = draw_samples(ThresholdDistribution(logits, order), 50, generator()).labels.bool()
    probability = logits.softmax(1)[:, 1]
    for b in range(2):
        for sample in labels[b]:
            if sample.any() and not sample.all():
                assert probability[b][sample].min() > probability[b][~sample].max()
        sizes = labels[b].flatten(1).sum(1)
        assert len(sizes.unique()) > 10
    assert not torch.equal(labels[0].flatten(1).sum(1), labels[1].flatten(1).sum(1))  # items have their own


@pytest.mark.parametrize(
    ("order", "impossible"),
    [((0, 1, 2), {(0, 2), (2, 0)}), ((0, 2, 1), {(0, 1), (1, 0)}), ((1, 0, 2), {(1, 2), (2, 1)})],
)
def test_order_of_the_classes(order: tuple[int, ...], impossible: set[tuple[int, int]]) -> None:
    """Of two voxels with equal probabilities one may lag the other by one class of the order, not by two."""
    probabilities = torch.tensor([[0.4, 0.3], [0.3, 0.4], [0.3, 0.3]])
    labels = draw_samples(ThresholdDistribution(probabilities.log()[None], order), 500, generator()).labels[0]
    pairs = {tuple(pair) for pair in labels.tolist()}
    assert not pairs & impossible
    assert {(0, 0), (1, 1), (2, 2)} <= pairs


def test_voxels_drawn_by_themselves_are_independent() -> None:
    labels = draw_samples(IndependentDistribution(torch.zeros(1, 2, 2)), 4000, generator()).labels[0].float()
    assert labels.T.corrcoef()[0, 1].abs() < 5 / 4000**0.5


@pytest.mark.parametrize("null", NULLS)
def test_certain_voxels_and_half_precision(null: type) -> None:
    logits = torch.tensor([[[0.0, -1e4, 0.0], [-1e4, 0.0, 0.0]]], dtype=torch.float16)
    samples = draw_samples(null(logits), 200, generator())
    assert (samples.labels[..., 0] == 0).all()
    assert (samples.labels[..., 1] == 1).all()
    assert 0 < samples.labels[..., 2].float().mean() < 1


@pytest.mark.parametrize("null", [*NULLS, DeterministicDistribution])
def test_logits_of_autocast_become_float32(null: type) -> None:
    distribution = null(torch.randn(1, 2, 3).bfloat16())
    assert distribution.mode_logits().dtype == distribution.sample_logits(2).dtype == torch.float32
    assert draw_samples(distribution, 2).probabilities.dtype == torch.float32


@pytest.mark.parametrize("null", NULLS)
def test_the_same_draws_in_chunks_of_any_size(null: type) -> None:
    distribution = null(torch.randn(2, 3, 4, 5))
    whole = distribution.sample_logits(7, generator(1)).argmax(2)
    for chunk_size in (1, 3):
        assert torch.equal(draw_samples(distribution, 7, generator(1), chunk_size).labels.long(), whole)
    assert not torch.equal(distribution.sample_logits(7, generator(2)).argmax(2), whole)


def test_every_sample_is_the_one_answer() -> None:
    logits = torch.randn(2, 3, 4, 5, requires_grad=True)
    distribution = DeterministicDistribution(logits)
    assert distribution.mode_logits() is logits
    assert distribution.weights is None
    samples = distribution.sample_logits(3)
    assert not samples.requires_grad
    assert torch.equal(samples, logits.detach().unsqueeze(1).repeat(1, 3, 1, 1, 1))
    assert DeterministicDistribution(logits.half()).sample_logits(1).dtype == torch.float32


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ThresholdDistribution(torch.zeros(1, 3, 2), (0, 1)), r"order must name each class 0 to 2 once"),
        (lambda: ThresholdDistribution(torch.zeros(1, 2, 2), (0, 0)), r"0 to 1 once, got \[0, 0\]"),
        (lambda: ThresholdDistribution(torch.zeros(1, 1, 2)), r"C of at least 2, got shape \(1, 1, 2\)"),
        (lambda: IndependentDistribution(torch.zeros(2, 2)), r"logits must be \[B, C, \*S\]"),
        (lambda: IndependentDistribution(torch.zeros(1, 2, 2)).sample_logits(0), "n must be at least 1, got 0"),
        (lambda: DeterministicDistribution(torch.zeros(1, 2, 2)).sample_logits(-1), "n must be at least 1, got -1"),
    ],
)
def test_rejects(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
