# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import gzip

import nibabel as nib
import numpy as np
import pytest
from predictions import write_raster, write_volume

from monai_stochseg.data import CaseError
from monai_stochseg.explore import show_samples


def parts(widget):
    controls, viewer, line = widget.children
    return [*controls.children], viewer, line


def test_the_frames_are_the_maps_and_the_slider_follows_the_order(tmp_path) -> None:
    (choice, order, place), viewer, line = parts(show_samples(write_volume(tmp_path), "case_1"))
    assert choice.options == ("single answer", "reader 1", "reader 2", "samples")
    image, overlay = viewer.volumes
    frames = np.asarray(nib.Nifti1Image.from_bytes(gzip.decompress(overlay.data)).dataobj)
    canonical = nib.as_closest_canonical(nib.load(tmp_path / "case_1_samples.nii.gz"))
    np.testing.assert_array_equal(frames[..., 3:], np.asarray(canonical.dataobj))
    assert gzip.decompress(image.data)[:4] == (348).to_bytes(4, "little")
    assert overlay.frame_4d == 0
    assert line.value == "single answer: whole 1.2 ml, core 0.192 ml"
    choice.value = "samples"
    order.value = "volume of whole, smallest first"
    place.value = 4
    assert overlay.frame_4d == 3 + 2  # sample 2 has the largest tumour
    assert line.value == "sample 3: whole 1.68 ml, core 0.192 ml"
    choice.value = "reader 2"
    assert overlay.frame_4d == 2


def test_a_case_without_image_or_samples(tmp_path) -> None:
    write_volume(tmp_path, num_samples=0, noise_seed=None, has_image=False, rater_weights=[])
    (choice,), viewer, _ = parts(show_samples(tmp_path))
    assert choice.options == ("single answer",)
    assert len(viewer.volumes) == 1


def test_cases_are_found_by_name_or_number(tmp_path) -> None:
    write_raster(tmp_path)
    for case in ("photo", 0):
        assert parts(show_samples(tmp_path, case))[0][0].value == "single answer"
    for case in ("other", 1, -1):
        with pytest.raises(CaseError, match=r"there is no case .*; there are photo"):
            show_samples(tmp_path, case)
    (tmp_path / "photo_prediction.json").unlink()
    with pytest.raises(CaseError, match="earlier version"):
        show_samples(tmp_path)
