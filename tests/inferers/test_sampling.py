# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch

from monai_stochseg.distributions import LowRankNormal, PredictiveDistribution
from monai_stochseg.inferers import draw_samples


class Weighted(PredictiveDistribution):
    """Fixed samples, with weights or without."""

    def __init__(self, logits: torch.Tensor, weights: torch.Tensor | None) -> None:
        self.logits, self.weights = logits, weights

    def sample_logits(self, n: int, generator: torch.Generator | None = None) -> torch.Tensor:
        assert n == self.logits.shape[1]
        return self.logits

    def mode_logits(self) -> torch.Tensor:
        return self.logits[:, 0]


def distribution() -> LowRankNormal:
    return LowRankNormal.from_parameters(torch.randn(2, 12, 4, 5), 3, 2)


@pytest.mark.parametrize("chunk_size", [1, 2, 3, 7])
def test_samples_and_marginals(chunk_size):
    normal = distribution()
    samples = draw_samples(normal, 7, torch.Generator().manual_seed(1), chunk_size)
    logits = normal.sample_logits(7, torch.Generator().manual_seed(1))
    assert samples.labels.dtype == torch.uint8
    assert torch.equal(samples.labels.long(), logits.argmax(2))
    torch.testing.assert_close(samples.probabilities, logits.softmax(2).mean(1))
    assert samples.weights is None


def test_weighted_samples():
    weights = torch.tensor([[0.25, 0.75]])
    logits = torch.randn(1, 2, 3, 4, 4)
    samples = draw_samples(Weighted(logits, weights), 2)
    torch.testing.assert_close(samples.probabilities, 0.25 * logits[:, 0].softmax(1) + 0.75 * logits[:, 1].softmax(1))
    assert samples.weights is weights


def test_half_precision_counts_past_256():
    logits = torch.tensor([[[[0.0], [-1e4]]]]).bfloat16().expand(1, 300, 2, 1)
    samples = draw_samples(Weighted(logits, None), 300, chunk_size=300)
    assert samples.probabilities.dtype == torch.float32
    assert samples.probabilities.flatten().tolist() == [1, 0]


@pytest.mark.parametrize(("num_samples", "chunk_size"), [(0, 1), (1, 0)])
def test_rejects_empty_draws(num_samples, chunk_size):
    with pytest.raises(ValueError, match="must be at least 1"):
        draw_samples(distribution(), num_samples, chunk_size=chunk_size)


def test_rejects_too_many_classes():
    normal = LowRankNormal(torch.zeros(1, 257, 2), torch.zeros(1, 1, 257, 2), torch.zeros(1, 257, 2))
    with pytest.raises(ValueError, match="at most 256 classes, got 257"):
        draw_samples(normal, 1)
