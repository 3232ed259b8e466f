# SPDX-License-Identifier: Apache-2.0
"""Axes: what is drawn lies as the file's affine says, and what is exported lies as the file does."""

from __future__ import annotations

import gzip
import itertools

import nibabel as nib
import numpy as np
import pytest
from predictions import maps, write_raster, write_volume

from monai_stochseg.explore.opened_case import OpenedCase
from monai_stochseg.explore.prediction_folder import PredictionFolder
from monai_stochseg.explore.served import (
    drawn_affine,
    drawn_grid,
    drawn_shape,
    export_file,
    served_focus,
    served_nifti,
    served_voxels,
)
from monai_stochseg.explore.slices import cut, planes


def opened(folder, name="case_1") -> OpenedCase:
    return OpenedCase(PredictionFolder(folder).files(name))


def affine_of(order: tuple[int, ...], signs: tuple[int, ...]) -> np.ndarray:
    """The file's axis i runs along the body's axis ``order[i]``, forwards or backwards, in steps of 1, 2 and 3 mm."""
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, (body, sign) in enumerate(zip(order, signs, strict=True)):
        affine[body, axis] = sign * (axis + 1)
    affine[:3, 3] = 7, -5, 3
    return affine


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, -1, 1), (1, -1, -1)])
def test_a_volume_is_turned_as_nibabel_turns_it(tmp_path, order, signs) -> None:
    case = opened(write_volume(tmp_path, affine=affine_of(order, signs)))
    image = nib.load(tmp_path / "case_1_mode.nii.gz")
    canonical = nib.as_closest_canonical(image)
    values = case.label_map("answer")
    np.testing.assert_array_equal(drawn_grid(case, values), np.asarray(canonical.dataobj))
    np.testing.assert_allclose(drawn_affine(case), canonical.affine)
    assert drawn_shape(case) == canonical.shape
    served = nib.Nifti1Image.from_bytes(served_nifti(case, values))
    np.testing.assert_array_equal(np.asarray(served.dataobj), np.asarray(canonical.dataobj))
    assert served_voxels(case, values) == np.asarray(canonical.dataobj).tobytes(order="F")
    voxel = int(np.flatnonzero(values == 2)[3])
    place = served_focus(case, voxel)
    assert np.asarray(canonical.dataobj)[tuple(place)] == 2
    original = [int(each) for each in np.unravel_index(voxel, case.shape, order="F")]
    np.testing.assert_allclose(canonical.affine @ [*place, 1], image.affine @ [*original, 1])


def test_planes_go_through_the_focus(tmp_path) -> None:
    """Rows from top to bottom: the front, or the head, is at the top, and the patient's right on the left."""
    case = opened(write_volume(tmp_path))
    values = case.label_map("answer")
    grid = drawn_grid(case, values)
    axial, coronal, sagittal = planes(case, [2, 3, 4])
    np.testing.assert_array_equal(cut(case, values, axial), grid[::-1, :, 4].T[::-1])
    np.testing.assert_array_equal(cut(case, values, coronal), grid[::-1, 3].T[::-1])
    np.testing.assert_array_equal(cut(case, values, sagittal), grid[2].T[::-1])
    assert axial.name == "axial, right on the left"
    assert (axial.pixels, axial.size) == ((12, 10), (1.0, 2.0))
    assert (sagittal.pixels, sagittal.size) == ((10, 8), (2.0, 3.0))


def test_what_is_too_large_for_a_graphics_card_is_drawn_coarser(tmp_path, monkeypatch) -> None:
    """And exported as it is."""
    monkeypatch.setattr("monai_stochseg.explore.served._LARGEST", 5)
    case = opened(write_volume(tmp_path))
    values = case.label_map("answer")
    canonical = nib.as_closest_canonical(nib.load(tmp_path / "case_1_mode.nii.gz"))
    np.testing.assert_array_equal(drawn_grid(case, values), np.asarray(canonical.dataobj)[::3, ::2, ::2])
    assert drawn_shape(case) == (4, 5, 4)
    np.testing.assert_allclose(drawn_affine(case), canonical.affine @ np.diag([3, 2, 2, 1]))
    place = served_focus(case, int(np.flatnonzero(values)[0]))
    assert all(0 <= each < size for each, size in zip(place, drawn_shape(case), strict=True))
    exported, _ = export_file(case, values)
    np.testing.assert_array_equal(
        np.asarray(nib.Nifti1Image.from_bytes(gzip.decompress(exported)).dataobj), maps()["mode"]
    )


def test_a_picture_has_one_plane_as_it_is(tmp_path) -> None:
    case = opened(write_raster(tmp_path), "photo")
    (plane,) = planes(case, [0, 0, 0])
    np.testing.assert_array_equal(cut(case, case.label_map("answer"), plane), maps((12, 10))["mode"])
    assert (plane.name, plane.pixels, plane.size) == ("image", (10, 12), (1.0, 1.0))
