# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch

from monai_stochseg.distributions import IndependentDistribution, LowRankNormal, MaskedDistribution
from monai_stochseg.distributions.label_maps import most_probable_class


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
            logits = distribution.sample_logits(19, torch.Generator().manual_seed(2))
            labels, probabilities = distribution.label_maps(19, torch.Generator().manual_seed(2))
            assert torch.equal(labels.long(), logits.argmax(2))
            torch.testing.assert_close(probabilities, logits.softmax(2).mean(1))
            results.append(logits)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(*results)
    torch.testing.assert_close(distribution.rsample(19, generator=torch.Generator().manual_seed(2)), results[0])


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
    labels, probabilities = MaskedDistribution(IndependentDistribution(logits), mask).label_maps(4, chunk_size=3)
    assert labels.dtype == torch.uint8
    assert not labels[..., 3:, :].any()
    assert labels[..., :3, :].any()
    assert torch.equal(probabilities[0, :, 3:], torch.tensor([1.0, 0, 0])[:, None, None].expand(3, 3, 5))
    torch.testing.assert_close(probabilities.sum(1), torch.ones(1, 6, 5))
