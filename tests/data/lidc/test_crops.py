# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
from dicom_series import tiny_reading, tiny_scan
from scipy.ndimage import map_coordinates

from monai_stochseg.data.lidc import LIDCNodule, lidc_nodules
from monai_stochseg.data.lidc.crops import CropGrid, crop_grids, crop_label


@pytest.fixture
def nodule() -> LIDCNodule:
    """Two readers: voxels 3 to 4, 2 to 3, 1 to 2 and one slice higher; voxels of 0.7 x 0.7 x 2.5 mm."""
    (nodule,) = lidc_nodules([tiny_scan(tiny_reading(1), tiny_reading(2, (3, 2, 2)))])
    return nodule


def test_resample_is_linear_and_ends_in_cval() -> None:
    """Along one axis by hand: half a voxel beyond the array the value is half way to cval."""
    grid = CropGrid((0.75, 0, 0), (0.5, 1, 1), (8, 1, 1))
    assert grid.origin.tolist() == [-1, 0, 0]
    values = grid.resample(np.array([10, 20]).reshape(2, 1, 1), cval=-10)
    assert values.dtype == np.float32
    assert values[:, 0, 0].tolist() == [-10, 0, 10, 15, 20, 5, -10, -10]


@pytest.mark.parametrize("center", [(5, 4, 3), (0.3, 6.6, 2.0), (-30, 4, 3), (4.2, 40, 3)], ids=str)
@pytest.mark.parametrize("first_voxel", [(0, 0, 0), (2, -3, 1)], ids=str)
def test_resample_of_a_part_is_that_of_the_whole(center, first_voxel) -> None:
    voxels = np.random.default_rng(0).integers(-1000, 400, (10, 9, 7))
    grid = CropGrid(center, (0.7, 0.4, 0.9), (6, 7, 5))
    points = np.indices(grid.spatial_size).T * grid.step + grid.origin - first_voxel
    expected = map_coordinates(np.pad(voxels, 40, constant_values=-1024).astype(float), points.T + 40, order=1)
    np.testing.assert_allclose(grid.resample(voxels, first_voxel, cval=-1024), expected, atol=1e-3)


def test_grids(nodule) -> None:
    """The centre is the mean of both readers' voxels: row 3.5, column 2.5, slice (1.5 + 2.5) / 2."""
    ((name, grid),) = crop_grids(nodule, 3, 6, 1.0)
    assert name == "LIDC-IDRI-0001_0001_00"
    assert grid.center == (3.5, 2.5, 2.0)
    assert grid.step == pytest.approx((1 / 0.7, 1 / 0.7, 1 / 2.5))
    assert grid.spatial_size == (6, 6, 6)
    slices = dict(crop_grids(nodule, 2, 6, 1.0))
    assert list(slices) == ["LIDC-IDRI-0001_0001_00_z001", "LIDC-IDRI-0001_0001_00_z002", "LIDC-IDRI-0001_0001_00_z003"]
    assert [each.center for each in slices.values()] == [(3.5, 2.5, 1), (3.5, 2.5, 2), (3.5, 2.5, 3)]
    assert slices["LIDC-IDRI-0001_0001_00_z001"].step == pytest.approx((1 / 0.7, 1 / 0.7, 1))
    assert slices["LIDC-IDRI-0001_0001_00_z001"].spatial_size == (6, 6, 1)


@pytest.mark.parametrize(("slices", "chosen"), [(1, [2]), (2, [1, 3]), (3, [1, 2, 3]), (9, [1, 2, 3])])
def test_slices_per_nodule(nodule, slices, chosen) -> None:
    names = [name for name, _ in crop_grids(nodule, 2, 6, 1.0, slices)]
    assert [int(name[-3:]) for name in names] == chosen


def test_label(nodule) -> None:
    """A slice on the scan's own pixels gives the masks back; a reader who drew nothing there is empty."""
    (_, low), (_, middle), _ = crop_grids(nodule, 2, 4, 0.7)
    square = np.pad(np.ones((2, 2), dtype=bool), 1)
    for grid, drawn in ((low, [1, 0, 0, 0]), (middle, [1, 1, 0, 0])):
        label = crop_label(nodule, grid)
        assert label.dtype == bool
        np.testing.assert_array_equal(label[..., 0], square * np.array(drawn, dtype=bool)[:, None, None])


def test_label_keeps_its_volume_in_3d(nodule) -> None:
    """2 x 2 x 2 voxels are 9.8 mm^3; the outline of 1/2 lies half a voxel beyond the outermost centres."""
    ((_, grid),) = crop_grids(nodule, 3, 80, 0.1)
    extent = [np.flatnonzero(crop_label(nodule, grid)[0].any(axes)).size * 0.1 for axes in ((1, 2), (0, 2), (0, 1))]
    assert extent == pytest.approx([1.4, 1.4, 5.0], abs=0.21)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((4, 6, 1.0), "spatial_dims must be 2 or 3, got 4"),
        ((2, 0, 1.0), "spatial_size and spacing must be positive, got 0 and 1.0"),
        ((2, 6, 0.0), "spatial_size and spacing must be positive, got 6 and 0.0"),
        ((2, 6, 1.0, 0), "slices_per_nodule must be at least 1, got 0"),
    ],
)
def test_refuses(nodule, arguments, message) -> None:
    with pytest.raises(ValueError, match=message):
        list(crop_grids(nodule, *arguments))
