# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest

from monai_stochseg.explore.volumes import histogram, structure_volumes


def test_volumes_by_hand() -> None:
    labels = np.array([[0, 1, 2, 2], [0, 0, 0, 0], [1, 1, 1, 2]], np.uint8)
    assert structure_volumes(labels, [1, 2], 0.5).tolist() == [1.5, 0.0, 2.0]
    assert structure_volumes(labels, [2], 1.0).tolist() == [2, 0, 1]


def test_histogram_by_hand() -> None:
    """Nine values: 2 + sqrt(9) = 5 bins; the largest value belongs to the last bin."""
    values = np.array([0, 0, 1, 2, 3, 4, 5, 5, 5.0])
    found = histogram(values, np.full(9, 1 / 9))
    np.testing.assert_allclose(found.edges, [0, 1, 2, 3, 4, 5])
    assert found.samples == [[0, 1], [2], [3], [4], [5, 6, 7, 8]]
    np.testing.assert_allclose(found.shares, np.array([2, 1, 1, 1, 4]) / 9)
    assert (found.median, found.low, found.high) == (3, 0, 5)


def test_weights_move_the_median_and_the_shares() -> None:
    found = histogram(np.array([1.0, 2.0, 3.0]), np.array([0.9, 0.1, 0.0]))
    assert (found.median, found.low, found.high) == (1, 1, 2)
    assert sum(found.shares) == pytest.approx(1)


@pytest.mark.parametrize("value", [0.0, 7.0])
def test_equal_values_have_one_bin_of_some_width(value) -> None:
    found = histogram(np.full(5, value), np.full(5, 0.2))
    assert found.samples == [[0, 1, 2, 3, 4]]
    assert found.edges[0] <= value < found.edges[1]
    assert found.edges[0] >= 0  # a volume
