# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
import shutil

import nibabel as nib
import numpy as np
import pytest
from predictions import AFFINE, SHAPE, maps, record, write_raster, write_volume

from monai_stochseg.data import CaseError
from monai_stochseg.explore.opened_case import OpenedCase
from monai_stochseg.explore.prediction_folder import PredictionFolder
from monai_stochseg.explore.summary import class_colours, describe_case, summarise


def opened(folder, name="case_1") -> OpenedCase:
    return OpenedCase(PredictionFolder(folder).files(name))


def grid(case: OpenedCase, values: np.ndarray) -> np.ndarray:
    return values.reshape(case.shape, order="F")


@pytest.mark.parametrize("stacked", [True, False])
def test_each_map_is_that_of_its_file(tmp_path, stacked) -> None:
    write_volume(tmp_path, stacked=stacked)
    if not stacked:
        for number, sample in enumerate(maps()["samples"]):
            nib.save(nib.Nifti1Image(sample, AFFINE), tmp_path / f"case_1_samples_{number}.nii.gz")
        (tmp_path / "case_1_samples.nii.gz").unlink()
    case = opened(tmp_path)
    found = maps()
    assert case.shape == SHAPE
    assert case.layers == ["answer", "reader-0", "reader-1", *(f"sample-{n}" for n in range(4))]
    np.testing.assert_array_equal(grid(case, case.label_map("answer")), found["mode"])
    for number in range(4):
        np.testing.assert_array_equal(grid(case, case.label_map(f"sample-{number}")), found["samples"][number])
    np.testing.assert_array_equal(grid(case, case.label_map("reader-1")), found["readers"][1])
    np.testing.assert_array_equal(grid(case, case.channel(1)), found["image"][1])
    assert [each.id for each in case.heat_maps] == ["probability-0", "entropy", "mutual_information"]
    np.testing.assert_allclose(grid(case, case.heat_map("probability-0")), 0.75 * (found["mode"] > 0))
    assert case.heat_maps[1].maximum == pytest.approx(math.log(3))
    for layer in ("sample-4", "nonsense", "entropy"):
        with pytest.raises(CaseError, match="there is no label map"):
            case.label_map(layer)
    with pytest.raises(CaseError, match="no channel 2"):
        case.channel(2)


def test_a_raster_is_that_of_its_pictures(tmp_path) -> None:
    case = opened(write_raster(tmp_path), "photo")
    found = maps((12, 10))
    assert case.shape == (12, 10)
    for number in range(4):
        np.testing.assert_array_equal(grid(case, case.label_map(f"sample-{number}")), found["samples"][number])
    np.testing.assert_array_equal(grid(case, case.label_map("reader-0")), found["readers"][0])
    assert case.channel(1).max() == 255
    assert (case.volume_unit, case.voxel_volume) == ("px", 1.0)


def test_the_summary_by_hand(tmp_path) -> None:
    """Voxels of 1 x 2 x 3 mm, 8 slices: the tumour has 25 voxels a slice and 10 more in sample 2, the core 4."""
    case = opened(write_volume(tmp_path, sample_weights=[0.3, 0.2, 0.1, 0.4]))
    described = describe_case(case, summarise(case))
    voxel = 6 / 1000
    volumes = [sample["volumes"] for sample in described["samples"]]
    np.testing.assert_allclose(volumes, np.array([[200, 32], [200, 32], [280, 32], [200, 0]]) * voxel)
    np.testing.assert_allclose(described["answer"]["volumes"], [200 * voxel, 32 * voxel])
    assert [reader["volumes"] for reader in described["readers"]] == [described["answer"]["volumes"], [0, 0]]
    assert [reader["name"] for reader in described["readers"]] == ["reader 1", "reader 2"]
    assert described["unit"] == "ml"
    orders = {order["id"]: order["samples"] for order in described["orders"]}
    assert orders["volume-0"][-1] == 2
    assert orders["volume-1"][0] == 3
    assert orders["distance"][:2] == [0, 1]
    assert described["samples"][0]["distance"] == 0
    # IoU of the tumour without its core 168 / 248, of the core 1
    assert described["samples"][2]["distance"] == pytest.approx((1 - 168 / 248) / 2, abs=1e-6)
    assert orders["likelihood"][0] in (0, 1)
    assert sum(cluster["share"] for cluster in described["clusters"]) == pytest.approx(1)
    assert any("no core" in cluster["text"] for cluster in described["clusters"])
    assert described["histograms"][1]["median"] == pytest.approx(32 * voxel)
    x, y, z = described["focus"]
    assert len({int(sample[::-1, ::-1][x, y, z]) for sample in maps()["samples"]}) == 2  # samples differ there


def test_a_case_with_one_answer_has_no_samples(tmp_path) -> None:
    write_volume(tmp_path, num_samples=0, noise_seed=None, rater_weights=[], has_image=False)
    case = opened(tmp_path)
    described = describe_case(case, summarise(case))
    assert case.layers == ["answer"]
    assert described["samples"] == described["orders"] == described["clusters"] == described["histograms"] == []
    assert described["channels"] == described["readers"] == []


def test_samples_without_a_foreground(tmp_path) -> None:
    write_volume(tmp_path)
    empty = np.zeros((*SHAPE, 4), np.uint8)
    for postfix, values in (("samples", empty), ("mode", empty[..., 0]), ("readers", empty[..., :2])):
        nib.save(nib.Nifti1Image(values, AFFINE), tmp_path / f"case_1_{postfix}.nii.gz")
    case = opened(tmp_path)
    described = describe_case(case, summarise(case))
    assert described["focus"] == [5, 4, 4]  # the middle, on axes that are turned
    assert [sample["distance"] for sample in described["samples"]] == [0] * 4
    assert described["histograms"][0]["median"] == 0


def test_what_cannot_be_read_is_named(tmp_path) -> None:
    write_volume(tmp_path)
    nib.save(nib.Nifti1Image(np.zeros((5, 4, 3), np.uint8), AFFINE), tmp_path / "case_1_mode.nii.gz")
    with pytest.raises(CaseError, match=r"case_1: reader has the shape \(12, 10, 8\), not \(5, 4, 3\)"):
        opened(tmp_path)
    (tmp_path / "case_1_samples.nii.gz").write_bytes(b"\x1f\x8b no gzip")
    with pytest.raises(CaseError, match=r"case_1_samples\.nii\.gz cannot be read"):
        opened(tmp_path)
    (tmp_path / "case_1_samples.nii.gz").unlink()
    with pytest.raises(CaseError, match=r"case_1_samples\.nii\.gz is not there any more"):
        opened(tmp_path)
    record(num_samples=7).write(tmp_path)
    nib.save(nib.Nifti1Image(np.zeros((*SHAPE, 4), np.uint8), AFFINE), tmp_path / "case_1_samples.nii.gz")
    with pytest.raises(CaseError, match="does not hold 7 maps"):
        opened(tmp_path)
    (tmp_path / "case_1_prediction.json").unlink()
    with pytest.raises(CaseError, match="case case_1 is not there any more"):
        opened(tmp_path)


@pytest.mark.parametrize("postfix", ["samples.nii.gz", "mode.nii.gz", "prediction.json"])
def test_a_link_out_of_the_folder_is_refused(tmp_path, postfix) -> None:
    write_volume(tmp_path / "elsewhere")
    write_volume(tmp_path / "folder")
    path = tmp_path / "folder" / f"case_1_{postfix}"
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere" / path.name)
    with pytest.raises(CaseError, match=f"case_1_{postfix} leads out of the folder"):
        opened(tmp_path / "folder")


def test_links_within_the_folder_and_to_the_folder_are_read(tmp_path) -> None:
    write_volume(tmp_path / "folder")
    shutil.move(tmp_path / "folder" / "case_1_samples.nii.gz", tmp_path / "folder" / "kept.nii.gz")
    (tmp_path / "folder" / "case_1_samples.nii.gz").symlink_to(tmp_path / "folder" / "kept.nii.gz")
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    assert len(opened(tmp_path / "link").layers) == 7


def test_a_folder_says_why_it_shows_nothing(tmp_path) -> None:
    with pytest.raises(CaseError, match="is no folder"):
        PredictionFolder(tmp_path / "absent")
    assert "There is no prediction" in PredictionFolder(tmp_path).message()
    (tmp_path / "case_1_mode.nii.gz").write_bytes(b"")
    assert "earlier version" in PredictionFolder(tmp_path).message()
    assert PredictionFolder(write_volume(tmp_path)).message() is None


@pytest.mark.parametrize("number", [2, 8, 19, 30])
def test_classes_have_different_colours(number) -> None:
    colours = class_colours(number)
    assert len(set(colours)) == number if number <= 22 else len(colours) == number
    assert all(len(colour) == 7 and int(colour[1:], 16) >= 0 for colour in colours)
