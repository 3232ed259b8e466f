# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from torch.nn.functional import one_hot

from monai_stochseg.distributions import HypothesesDistribution
from monai_stochseg.inferers import draw_samples
from monai_stochseg.metrics import compute_generalized_energy_distance


def one_per_hypothesis(weights: torch.Tensor | None = None, batch: int = 2, hypotheses: int = 3) -> torch.Tensor:
    """Number of times that each item draws each hypothesis out of 4000, ``[B, M]``; the logits are their indices."""
    logits = torch.arange(hypotheses).reshape(1, -1, 1, 1).expand(batch, hypotheses, 2, 1).float()
    samples = HypothesesDistribution(logits, weights).sample_logits(4000, torch.Generator().manual_seed(0))
    return torch.stack([(samples[:, :, 0, 0] == m).sum(1) for m in range(hypotheses)], dim=1)


def test_hypotheses_are_equally_likely_by_default():
    torch.testing.assert_close(one_per_hypothesis() / 4000, torch.full((2, 3), 1 / 3), atol=0.04, rtol=0)


def test_hypotheses_are_drawn_by_weight():
    weights = torch.tensor([[0.7, 0.3, 0.0], [0.0, 0.0, 1.0]])
    torch.testing.assert_close(one_per_hypothesis(weights) / 4000, weights, atol=0.04, rtol=0)


@pytest.mark.parametrize("chunk_size", [1, 4, 16])
def test_sixteen_samples_of_sixteen_heads_are_the_set_of_heads(chunk_size):
    """Each once: the energy distance of the samples is that of the heads themselves."""
    generator = torch.Generator().manual_seed(0)
    heads = torch.randint(2, (2, 16, 6, 6), generator=generator)
    raters = torch.randint(2, (2, 4, 6, 6), generator=generator)
    distribution = HypothesesDistribution(one_hot(heads, 2).movedim(-1, 2).float())
    samples = draw_samples(distribution, 16, torch.Generator().manual_seed(1), chunk_size).labels
    for drawn, given in zip(samples.flatten(2).long(), heads.flatten(2), strict=True):
        assert sorted(drawn.tolist()) == sorted(given.tolist())
    assert not torch.equal(samples[0].long(), heads[0])  # in an order of their own
    expected = compute_generalized_energy_distance(heads, raters, 2)
    torch.testing.assert_close(compute_generalized_energy_distance(samples, raters, 2), expected)


@pytest.mark.parametrize(("n", "counts"), [(3, {0, 1}), (5, {1}), (13, {2, 3}), (20, {4})])
def test_equal_hypotheses_are_drawn_without_replacement(n, counts):
    logits = torch.arange(5.0).reshape(1, -1, 1, 1).expand(2, 5, 2, 1)
    for seed in range(4):
        samples = HypothesesDistribution(logits).sample_logits(n, torch.Generator().manual_seed(seed))[:, :, 0, 0]
        for item in samples:
            assert {int((item == m).sum()) for m in range(5)} == counts


def test_a_deck_left_half_used_does_not_move_the_next_draw():
    distribution = HypothesesDistribution(torch.randn(2, 5, 3, 4))
    first = distribution.sample_logits(3, torch.Generator().manual_seed(1))
    torch.testing.assert_close(distribution.sample_logits(3, torch.Generator().manual_seed(1)), first, rtol=0, atol=0)


def test_items_draw_by_themselves():
    logits = torch.arange(2.0).reshape(1, 2, 1, 1).expand(2, 2, 2, 1)
    one, two = HypothesesDistribution(logits).sample_logits(4000, torch.Generator().manual_seed(0))[:, :, 0, 0]
    assert torch.stack([one, two]).corrcoef()[0, 1].abs() < 5 / 4000**0.5


@pytest.mark.parametrize("shape", [(4, 5), (2, 3, 4)])
def test_draws_replay_and_chunks_equal_the_whole(shape):
    logits = torch.randn(2, 5, 3, *shape)
    distribution = HypothesesDistribution(logits)
    assert distribution.weights is None
    whole = distribution.sample_logits(7, torch.Generator().manual_seed(1))
    assert whole.shape == (2, 7, 3, *shape)
    labels = draw_samples(distribution, 7, torch.Generator().manual_seed(1), chunk_size=3).labels
    assert torch.equal(labels.long(), whole.argmax(2))
    assert not torch.equal(whole, distribution.sample_logits(7, torch.Generator().manual_seed(2)))


def test_the_mode_is_the_mean_of_the_probabilities():
    """Two of three say class 1 with 0.6, the third class 0 with certainty: 0.4 and 0.6 by the mean, 0.6 and 0.4."""
    probabilities = torch.tensor([[0.4, 0.6], [0.4, 0.6], [1.0, 0.0]])[None, ..., None]
    logits = probabilities.clamp(min=1e-30).log()
    mode = HypothesesDistribution(logits).mode_logits().exp()
    torch.testing.assert_close(mode.flatten(), torch.tensor([0.6, 0.4]))
    weighted = HypothesesDistribution(logits, torch.tensor([[0.5, 0.5, 0.0]])).mode_logits().exp()
    torch.testing.assert_close(weighted.flatten(), torch.tensor([0.4, 0.6]))


def test_offsets_of_the_logits_do_not_move_the_mode():
    """Logits are known up to a constant: one that a hypothesis adds to all classes must not give it more weight."""
    logits = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    shifted = logits + torch.tensor([0.0, 30.0, -20.0]).reshape(1, 3, 1, 1)
    mode = HypothesesDistribution(logits).mode_logits()
    torch.testing.assert_close(mode.exp(), logits.softmax(2).mean(1))
    torch.testing.assert_close(HypothesesDistribution(shifted).mode_logits(), mode, rtol=1e-4, atol=1e-5)


def test_gradients_reach_the_mode_and_half_precision_becomes_float32():
    logits = torch.randn(1, 2, 2, 3).to(torch.bfloat16).requires_grad_()
    distribution = HypothesesDistribution(logits)
    distribution.mode_logits()[:, 0].sum().backward()
    assert logits.grad is not None
    assert logits.grad.any()
    samples = distribution.sample_logits(1)
    assert samples.dtype == torch.float32
    assert not samples.requires_grad


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: HypothesesDistribution(torch.zeros(1, 2, 3)), r"logits must be \[B, M, C, \*S\]"),
        (
            lambda: HypothesesDistribution(torch.zeros(1, 2, 2, 3), torch.ones(1, 3)),
            r"weights must be \[B, M\] of logits, \(1, 2\), got",
        ),
        (lambda: HypothesesDistribution(torch.zeros(1, 2, 2, 3), torch.ones(1, 2)), "sum to 1 per item"),
        (lambda: HypothesesDistribution(torch.zeros(1, 2, 2, 3), torch.tensor([[2.0, -1.0]])), "not be negative"),
        (lambda: HypothesesDistribution(torch.zeros(1, 2, 2, 3)).sample_logits(0), "n must be at least 1, got 0"),
    ],
)
def test_rejects(make, message):
    with pytest.raises(ValueError, match=message):
        make()
