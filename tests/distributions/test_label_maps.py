# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch

from monai_stochseg.distributions import (
    HypothesesDistribution,
    IndependentDistribution,
    LowRankNormal,
    MaskedDistribution,
    PredictiveDistribution,
)
from monai_stochseg.distributions.label_maps import most_probable_class
from monai_stochseg.metrics import compute_entropy_decomposition


@pytest.mark.parametrize("classes", [2, 3, 4, 8, 9, 19])
def test_the_class_of_the_largest_logit(classes):
    logits = torch.randint(-2, 3, (3, classes, 40)).float()  # with equal ones, of which the first is taken
    assert torch.equal(most_probable_class(logits).long(), (logits == logits.amax(1, keepdim=True)).int().argmax(1))


def normal(shape: tuple[int, ...], mask: bool) -> LowRankNormal:
    """Of two items, in more than one block of voxels."""
    generator = torch.Generator().manual_seed(1)
    parameters = torch.randn(2, 4 * (2 + 3), *shape, generator=generator)
    region = (torch.rand(2, 1, *shape, generator=generator) > 0.5) if mask else None
    distribution = LowRankNormal.from_parameters(parameters, 4, 3, mask=region)
    return distribution.scaled(temperature=1.5, class_scale=[1, 2, 1, 0.5], rank_scale=[1, 0.5, 2])


@pytest.mark.parametrize("mask", [False, True])
@pytest.mark.parametrize("shape", [(64, 70), (17, 16, 18)])
def test_label_maps_are_those_of_the_samples(shape, mask):
    """Bit for bit, of more samples than are drawn together, in one thread and in several; as a draw with gradients."""
    distribution = normal(shape, mask)
    threads, results = torch.get_num_threads(), []
    try:
        for number in (1, 3):
            torch.set_num_threads(number)
            logits = distribution.sample_logits(35, torch.Generator().manual_seed(2))
            labels, probabilities, _ = distribution.label_maps(35, torch.Generator().manual_seed(2))
            assert torch.equal(labels.long(), logits.argmax(2))
            torch.testing.assert_close(probabilities, logits.softmax(2).mean(1))
            assert torch.get_num_threads() == number
            results.append(logits)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(*results)
    drawn = distribution.label_maps(35, torch.Generator().manual_seed(2), with_entropy=True)
    entropy = torch.special.entr(results[0].softmax(2)).sum(2).mean(1, keepdim=True)
    torch.testing.assert_close(drawn.expected_entropy, entropy, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(distribution.rsample(35, generator=torch.Generator().manual_seed(2)), results[0])


def test_a_mask_changes_no_draw_order_inside():
    """Nothing is drawn outside the mask: of equal numbers of voxels inside, each gets the next numbers."""
    parameters = torch.zeros(1, 2 * 3, 4, 4)
    regions = torch.zeros(2, 1, 1, 4, 4)
    regions[0, ..., :2, :], regions[1, ..., 2:, :] = 1, 1
    first, second = (
        LowRankNormal.from_parameters(parameters, 2, 1, mask=region).sample_logits(3, torch.Generator().manual_seed(0))
        for region in regions
    )
    assert torch.equal(first[..., :2, :], second[..., 2:, :])


def test_outside_a_mask_is_background_for_certain():
    mask = torch.zeros(1, 1, 6, 5)
    mask[..., :3, :] = 1
    logits = torch.zeros(1, 3, 6, 5)
    logits[:, 1:] = 5
    masked = MaskedDistribution(IndependentDistribution(logits), mask)
    labels, probabilities, entropy = masked.label_maps(4, chunk_size=3, with_entropy=True)
    assert labels.dtype == torch.uint8
    assert not labels[..., 3:, :].any()
    assert labels[..., :3, :].any()
    assert torch.equal(probabilities[0, :, 3:], torch.tensor([1.0, 0, 0])[:, None, None].expand(3, 3, 5))
    torch.testing.assert_close(probabilities.sum(1), torch.ones(1, 6, 5))
    assert not entropy[..., 3:, :].any()


@pytest.mark.parametrize("chunk_size", [1, 3])
@pytest.mark.parametrize("weights", [None, [[0.5, 0.25, 0.25, 0.0]]])
def test_the_expected_entropy_is_that_of_the_decomposition(chunk_size, weights):
    logits = torch.randn(1, 4, 3, 5, 6, generator=torch.Generator().manual_seed(0))
    given = None if weights is None else torch.tensor(weights)
    drawn = HypothesesDistribution(logits).label_maps(4, torch.Generator().manual_seed(0), chunk_size)
    assert drawn.expected_entropy is None
    distribution = _Fixed(logits, given)
    drawn = distribution.label_maps(4, chunk_size=chunk_size, with_entropy=True)
    parts = compute_entropy_decomposition(logits.softmax(2), y_pred_weights=given)
    torch.testing.assert_close(drawn.expected_entropy, parts.expected)
    torch.testing.assert_close(torch.special.entr(drawn.probabilities).sum(1, keepdim=True), parts.predictive)


class _Fixed(PredictiveDistribution):
    """Gives its logits one after the other."""

    def __init__(self, logits: torch.Tensor, weights: torch.Tensor | None) -> None:
        self.logits = logits
        self.weights = weights
        self.given = 0

    def sample_logits(self, n: int, generator: torch.Generator | None = None) -> torch.Tensor:
        self.given += n
        return self.logits[:, self.given - n : self.given]

    def mode_logits(self) -> torch.Tensor:
        return self.logits[:, 0]
