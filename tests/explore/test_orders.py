# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import numpy as np
import torch

from monai_stochseg.explore.orders import distances, log_likelihoods
from monai_stochseg.metrics import compute_pairwise_distance


def test_log_likelihoods_by_hand() -> None:
    """Two classes, three samples: in the first voxel two say 1, in the second all say 0."""
    labels = np.array([[1, 0], [1, 0], [0, 0]], np.uint8)
    one, other, sure = math.log(2.5 / 4), math.log(1.5 / 4), math.log(3.5 / 4)
    expected = [one + sure, one + sure, other + sure]
    np.testing.assert_allclose(log_likelihoods(labels, np.full(3, 1 / 3), 2), expected)


def test_weights_count_as_numbers_of_samples() -> None:
    """A sample of twice the weight stands for two, of as many samples in all."""
    twice = np.array([[1, 0], [1, 0], [0, 1], [0, 1]], np.uint8)
    weighted = log_likelihoods(twice[[0, 0, 2, 2]], np.array([0.5, 0, 0.5, 0]), 2)
    np.testing.assert_allclose(weighted, log_likelihoods(twice, np.full(4, 0.25), 2))


def test_distances_are_those_of_the_metrics() -> None:
    labels = np.random.default_rng(0).integers(0, 3, (5, 40)).astype(np.uint8)
    expected = compute_pairwise_distance(torch.from_numpy(labels)[None], distance=3)[0]
    np.testing.assert_allclose(distances(labels, 3), expected, atol=1e-6)


def test_without_a_voxel_nothing_differs() -> None:
    assert not distances(np.zeros((3, 0), np.uint8), 2).any()
    assert not log_likelihoods(np.zeros((3, 0), np.uint8), np.full(3, 1 / 3), 2).any()
