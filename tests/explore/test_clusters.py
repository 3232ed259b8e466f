# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest

from monai_stochseg.explore.clusters import Cluster, cluster_samples, describe


def blocks(*sizes: int, inside: float = 0.1) -> np.ndarray:
    group = np.repeat(np.arange(len(sizes)), sizes)
    distance = np.where(group[:, None] == group, inside, 0.9)
    np.fill_diagonal(distance, 0)
    return distance


def test_blocks_are_found_the_heaviest_first() -> None:
    weights = np.array([0.05, 0.05, 0.3, 0.3, 0.3])
    found = cluster_samples(blocks(2, 3), weights)
    assert [sorted(cluster.samples) for cluster in found] == [[2, 3, 4], [0, 1]]
    np.testing.assert_allclose([cluster.share for cluster in found], [0.9, 0.1])


def test_the_middle_sample_stands_first() -> None:
    """On a line at 0, 1 and 2, far from a fourth, the middle one is that at 1."""
    place = np.array([0.0, 2.0, 1.0, 100.0])
    distance = np.abs(place[:, None] - place) / 100
    found = cluster_samples(distance, np.full(4, 0.25))
    assert [cluster.samples[0] for cluster in found] == [2, 3]


@pytest.mark.parametrize("number", [1, 2, 6])
def test_equal_samples_are_one_cluster(number) -> None:
    (found,) = cluster_samples(np.zeros((number, number)), np.full(number, 1 / number))
    assert sorted(found.samples) == list(range(number))
    assert found.share == pytest.approx(1)


def test_no_cut_is_made_where_none_is_clear() -> None:
    """Points spread evenly on a plane."""
    points = np.random.default_rng(0).uniform(size=(40, 6))
    distance = np.linalg.norm(points[:, None] - points, axis=-1)
    assert len(cluster_samples(distance / distance.max(), np.full(40, 1 / 40))) == 1


def test_words_say_what_is_absent_or_larger() -> None:
    clusters = [Cluster([0, 1], 0.5), Cluster([2], 0.3), Cluster([3], 0.2)]
    volumes = np.array([[10.0, 2.0], [10.0, 2.0], [10.0, 0.0], [30.0, 2.0]])
    lines = describe(clusters, volumes, np.array([0.25, 0.25, 0.3, 0.2]), ["whole", "core"])
    assert lines[1] == "30 % have no core"
    assert lines[2] == "20 % look like this: whole larger than the mean"
    assert lines[0].startswith("50 % look like this")
    assert describe(clusters[:1], volumes, np.full(4, 0.25), ["whole", "core"]) == ["No groups that are clearly apart"]


def test_samples_of_no_weight_change_no_words() -> None:
    clusters = [Cluster([0, 1], 0.6), Cluster([2, 3], 0.4), Cluster([4], 0.0)]
    volumes = np.array([[10.0, 2.0], [10.0, 2.0], [10.0, 0.0], [10.0, 0.0], [30.0, 0.0]])
    lines = describe(clusters, volumes, np.array([0.3, 0.3, 0.2, 0.2, 0.0]), ["whole", "core"])
    assert lines[1:] == ["40 % have no core", "0 % look like this"]
