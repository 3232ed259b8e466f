# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import torch
from own_folders import nifti_folder, raster_folder, structures_folder, volume
from PIL import Image

from monai_stochseg.data import CaseError, RaterLayout, rater_datalist
from monai_stochseg.transforms import LoadRaterCased

RASTERS = RaterLayout(
    "images/{case}.png", "readers/{rater}/{case}.png", known_raters=True, label_map={"0": 0, "255": 1}
)
STRUCTURES = {"image": "{case}/image.nii*", "label": "{case}/task{structure}_seg{rater}.nii*"}


def test_raters_of_a_volume(tmp_path) -> None:
    layout = RaterLayout()
    case = LoadRaterCased(layout, 3, 1, 3)(rater_datalist(nifti_folder(tmp_path, 2), layout)[1])
    image, masks = volume(1, 4)
    torch.testing.assert_close(case["image"].as_tensor(), torch.from_numpy(image[None]))
    torch.testing.assert_close(case["label"].as_tensor(), torch.from_numpy(np.stack(masks)))
    assert case["rater_weights"].tolist() == [1, 1, 1, 1]
    assert case["image"].affine.diag().tolist() == pytest.approx([1.1, 1, 2, 1])


def test_exchangeable_raters_come_first_and_missing_ones_weigh_nothing(tmp_path) -> None:
    layout = RaterLayout()
    case = LoadRaterCased(layout, 3, 1, 3, num_raters=5)(rater_datalist(nifti_folder(tmp_path, 1), layout)[0])
    assert case["rater_weights"].tolist() == [1, 1, 1, 0, 0]
    assert case["label"].shape[0] == 5


def test_a_known_rater_has_one_place_in_all_cases(tmp_path) -> None:
    load = LoadRaterCased(RASTERS, 2, 3, 2, rater_names=["Ada", "Bob", "Cid"])
    first, second = (load(case) for case in rater_datalist(raster_folder(tmp_path, 2), RASTERS))
    assert first["rater_weights"].tolist() == [1, 1, 0]
    assert second["rater_weights"].tolist() == [1, 1, 1]
    mask = np.asarray(Image.open(tmp_path / "readers" / "Cid" / "p1.png")) > 0
    np.testing.assert_array_equal(second["label"][2].numpy(), mask)
    assert not first["label"][2].any()


def test_overlapping_structures_are_classes_of_their_combinations(tmp_path) -> None:
    layout = RaterLayout(**STRUCTURES, structures=["01", "02"], combinations=[[], [0], [0, 1]])
    case = rater_datalist(structures_folder(tmp_path, 1), layout)[0]
    loaded = LoadRaterCased(layout, 3, 1, 3)(case)
    torch.testing.assert_close(loaded["label"].as_tensor(), torch.from_numpy(np.stack(volume(0, 3)[1])))
    flat = RaterLayout(**STRUCTURES, structures=["01", "02"])  # no overlap is known
    with pytest.raises(CaseError, match=r"case case00: in .*task01_seg01.* and its like 01, 02 overlap"):
        LoadRaterCased(flat, 3, 1, 3)(case)


def test_a_slice_of_nifti_is_an_image_of_two_dimensions(tmp_path) -> None:
    (tmp_path / "a").mkdir()
    for name in ("image", "annotation_1"):
        nib.save(nib.Nifti1Image(np.ones((6, 5, 1), np.uint8), np.eye(4)), tmp_path / "a" / f"{name}.nii.gz")
    layout = RaterLayout()
    case = rater_datalist(tmp_path, layout)[0]
    assert LoadRaterCased(layout, 2, 1, 2)(case)["label"].shape == (1, 6, 5)
    assert LoadRaterCased(layout, 3, 1, 2)(case)["label"].shape == (1, 6, 5, 1)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("value", r"case p0: .*Ada/p0\.png has the value 7, which is not one of \[0, 255\]"),
        ("shape", r"patient p0: .*Bob/p0\.png has shape \(4, 4\), but .*images/p0\.png has \(24, 20\)"),
        ("channels", r"case p0: .*images/p0\.png has 1 channels, others have 3"),
        ("volume", r"case p0: .*images/p0\.nii has shape \(4, 4, 4\), but spatial_dims is 2"),
        ("infinite", r"case p0: .*images/p0\.nii has 1 voxels that are NaN or infinite"),
        ("label channels", r"case p0: .*Ada/p0\.nii has 3 channels; a mask has one"),
    ],
)
def test_a_case_that_cannot_be_used_is_named(tmp_path, damage: str, message: str) -> None:
    case = rater_datalist(raster_folder(tmp_path, 1), RASTERS)[0]

    def nifti(name: str, array: np.ndarray) -> str:
        nib.save(nib.Nifti1Image(array, np.eye(4)), tmp_path / name)
        return str(tmp_path / name)

    if damage == "value":
        Image.fromarray(np.full((24, 20), 7, np.uint8)).save(case["label"][0][0])
    elif damage == "shape":
        Image.fromarray(np.zeros((4, 4), np.uint8)).save(case["label"][1][0])
    elif damage == "channels":
        Image.fromarray(np.zeros((24, 20), np.uint8)).save(case["image"][0])
    elif damage == "volume":
        case = {**case, "image": [nifti("images/p0.nii", np.zeros((4, 4, 4)))], "label": []}
    elif damage == "infinite":
        array = np.zeros((24, 20))
        array[3, 3] = np.nan
        case = {**case, "image": [nifti("images/p0.nii", array)]}
    else:
        rgb = np.zeros((24, 20, 1, 3), np.uint8)
        case = {**case, "label": [[nifti("readers/Ada/p0.nii", rgb)], case["label"][1]]}
    channels = 1 if damage == "infinite" else 3
    with pytest.raises(CaseError, match=message):
        LoadRaterCased(RASTERS, 2, channels, 2, with_label=damage != "volume")(case)


def test_without_label_paths_are_dropped(tmp_path) -> None:
    case = LoadRaterCased(RASTERS, 2, 3, 2, with_label=False)(rater_datalist(raster_folder(tmp_path, 1), RASTERS)[0])
    assert not {"label", "raters", "rater_weights"} & set(case)
    with pytest.raises(CaseError, match="case p0: there is no label to load"):
        LoadRaterCased(RASTERS, 2, 3, 2)(case)
