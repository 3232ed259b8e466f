# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch

from monai_stochseg.losses.expert_groups import expert_groups


def confident(labels: torch.Tensor, classes: int = 2) -> torch.Tensor:
    """Logits ``[B, N, C, *S]`` of label maps ``[B, N, *S]``."""
    return 50 * torch.nn.functional.one_hot(labels, classes).movedim(-1, 2).float()


def rows(*lengths: tuple[int, int]) -> torch.Tensor:
    """Foreground of a row of ten voxels, from and to."""
    labels = torch.zeros(1, len(lengths), 10, 1, dtype=torch.long)
    for n, (start, stop) in enumerate(lengths):
        labels[0, n, start:stop] = 1
    return labels


@pytest.mark.parametrize(
    ("threshold", "groups"), [(0.9, [0, 1, 2]), (0.83, [0, 0, 2]), (0.3, [0, 0, 2]), (0.01, [0, 0, 0])]
)
def test_a_hand_computed_case(threshold, groups):
    """Rows of 4 and 5 voxels overlap by (4 + 1) / (5 + 1); one of 3 elsewhere by 1 / 8 and 1 / 9."""
    logits = confident(rows((0, 4), (0, 5), (6, 9)))
    assert expert_groups(logits, 3, threshold).tolist() == [groups]


def test_two_that_overlap_with_a_third_are_one_group():
    """Neighbours of the chain overlap by 4 / 6, those next to each other's by 3 / 7."""
    logits = confident(rows((0, 4), (6, 7), (1, 5), (2, 6), (3, 7)))
    assert expert_groups(logits, 5, 0.6).tolist() == [[0, 1, 0, 0, 0]]


def test_it_is_the_mean_of_the_samples_that_counts():
    """Both experts draw the same two maps, in another order: no sample is that of the other, the means are equal."""
    logits = confident(rows((0, 4), (5, 9), (5, 9), (0, 4)))
    assert expert_groups(logits, 2, 0.999).tolist() == [[0, 0]]
    assert expert_groups(logits, 4, 0.5).tolist() == [[0, 1, 1, 0]]


def test_equal_experts_are_one_group_however_unsure_and_items_apart():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 4, 3, 4, 5, generator=generator)
    logits[1, 2] = logits[1, 0]
    assert expert_groups(logits, 3, 0.999).tolist() == [[0, 1, 2], [0, 1, 0]]
