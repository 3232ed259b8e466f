# SPDX-License-Identifier: Apache-2.0
"""Groups of like samples, and what tells them apart in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

__all__ = ["Cluster", "cluster_samples", "describe"]

_MOST = 6
_CLEAR = 0.25  # a mean silhouette below it is no structure, by Kaufman and Rousseeuw 1990, table 4
_NEARLY_ALL = 0.9


class Cluster(NamedTuple):
    """``samples``, the middle one first; their ``share`` of the weight."""

    samples: list[int]
    share: float


def cluster_samples(distance: np.ndarray, weights: np.ndarray) -> list[Cluster]:
    """
    Groups of like samples, the largest first: average linkage, cut into as many groups as give the largest mean
    silhouette; one group where no cut is clear.

    Args:
        distance: of all pairs, ``[N, N]``.
        weights: of the samples, ``[N]``, summing to 1.

    Example::

        >>> distance = 1.0 - np.kron(np.eye(2), np.ones((2, 2)))
        >>> [cluster.samples for cluster in cluster_samples(distance, np.array([0.4, 0.3, 0.2, 0.1]))]
        [[0, 1], [2, 3]]
    """
    number = len(distance)
    best, best_groups = _CLEAR, np.ones(number, int)
    if number > 2 and distance.max() > 0:
        tree = linkage(squareform(distance, checks=False), "average")
        for count in range(2, min(_MOST, number - 1) + 1):
            groups = fcluster(tree, count, "maxclust")
            silhouette = _silhouette(distance, groups, weights)
            if silhouette > best:
                best, best_groups = silhouette, groups
    members = [np.flatnonzero(best_groups == group) for group in np.unique(best_groups)]
    clusters = [Cluster(_middle_first(distance, each, weights), float(weights[each].sum())) for each in members]
    return sorted(clusters, key=lambda cluster: -cluster.share)


def _middle_first(distance: np.ndarray, members: np.ndarray, weights: np.ndarray) -> list[int]:
    """The members by their mean distance to the others, the medoid first."""
    mean = distance[np.ix_(members, members)] @ weights[members]
    order: list[int] = members[np.argsort(mean, kind="stable")].tolist()
    return order


def _silhouette(distance: np.ndarray, groups: np.ndarray, weights: np.ndarray) -> float:
    """The mean silhouette of the samples, by their weights; 0 of a sample that is alone, as Rousseeuw 1987 has it."""
    names = np.unique(groups)
    if len(names) < 2:
        return 0.0
    values = np.zeros(len(groups))
    for i, own in enumerate(groups):
        same = (groups == own) & (np.arange(len(groups)) != i)
        if same.any():
            inside = distance[i, same].mean()
            outside = min(distance[i, groups == other].mean() for other in names if other != own)
            values[i] = (outside - inside) / max(outside, inside, 1e-12)
    return float(values @ weights / weights.sum())


def describe(
    clusters: Sequence[Cluster], volumes: np.ndarray, weights: np.ndarray, structures: Sequence[str]
) -> list[str]:
    """
    A line for each cluster: its share, and what it lacks that others have, or how large its structures are beside them.

    Args:
        clusters: the clusters.
        volumes: of each structure in each sample, ``[N, T]``.
        weights: of the samples, ``[N]``.
        structures: their T names.

    Example::

        >>> clusters = [Cluster([0, 1], 0.62), Cluster([2], 0.38)]
        >>> volumes, weights = np.array([[5.0, 1.0], [4.0, 1.0], [5.0, 0.0]]), np.array([0.31, 0.31, 0.38])
        >>> describe(clusters, volumes, weights, ["tumour", "core"])
        ['62 % look like this', '38 % have no core']
    """
    if len(clusters) == 1:
        return ["No groups that are clearly apart"]
    share = np.array([[c.share] for c in clusters])
    present = np.array(
        [[weights[c.samples] @ (volumes[c.samples, t] > 0) for t in range(len(structures))] for c in clusters]
    ) / np.where(share > 0, share, 1)
    most = present[share[:, 0] > 0].max(0)
    lines = []
    for cluster, own in zip(clusters, present, strict=True):
        lacking = [
            name
            for t, name in enumerate(structures)
            if own[t] <= 1 - _NEARLY_ALL and most[t] >= _NEARLY_ALL and cluster.share > 0
        ]
        share_text = f"{math.floor(100 * cluster.share + 0.5)} %"  # as the page rounds
        if lacking:
            lines.append(f"{share_text} have no {', no '.join(lacking)}")
        else:
            lines.append(f"{share_text} look like this{_size(cluster, volumes, weights, structures)}")
    return lines


def _size(cluster: Cluster, volumes: np.ndarray, weights: np.ndarray, structures: Sequence[str]) -> str:
    """The structure whose mean volume differs most from that of all samples, where it differs by more than a fifth."""
    if not cluster.share:
        return ""
    overall = weights @ volumes
    own = weights[cluster.samples] @ volumes[cluster.samples] / max(cluster.share, 1e-12)
    ratio = np.where(overall > 0, own / np.where(overall > 0, overall, 1), 1)
    change = np.abs(np.log(np.clip(ratio, 1e-3, None)))
    t = int(change.argmax())
    if change[t] < np.log(1.2):
        return ""
    return f": {structures[t]} {'larger' if ratio[t] > 1 else 'smaller'} than the mean"
