# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from dicom_series import stored_values, tiny_reading, tiny_scan, write_series
from PIL import Image

from monai_stochseg.data import CaseError
from monai_stochseg.data.lidc import crops_datalist, import_lidc, lidc_nodules, prepare_lidc
from monai_stochseg.data.lidc.crops_folder import read_crop, read_parameters
from monai_stochseg.data.lidc.prepare import scan_crops

pytest.importorskip("pydicom", reason="reading DICOM needs pydicom")


@pytest.fixture
def dicom_dir(tmp_path, monkeypatch):
    """Three scans in the database, the second without a nodule; the first and the third are on disk."""
    third = (tiny_reading(3, (0, 0, 0)), tiny_reading(4, (0, 0, 0)))
    scans = [tiny_scan(), replace(tiny_scan(number=2), clusters=()), tiny_scan(*third, number=3)]
    monkeypatch.setattr("monai_stochseg.data.lidc.prepare.read_lidc_database", lambda progress: scans)
    for scan in (scans[0], scans[2]):
        write_series(tmp_path / "dicom" / scan.patient_id / scan.series_instance_uid, scan)
    return tmp_path / "dicom"


def test_crops_of_all_scans_on_disk(tmp_path, dicom_dir) -> None:
    """A scan without a nodule is not needed. Points on the scan's own pixels give its values back, and air beyond."""
    out = prepare_lidc(dicom_dir, tmp_path / "crops", spatial_size=4, spacing=0.7, progress=False)
    assert out == str(tmp_path / "crops")
    datalist = crops_datalist(out)
    assert [(case["name"][10:], case["patient"], case["drawn"]) for case in datalist] == [
        ("0001_0001_00_z001", "LIDC-IDRI-0001", [1, 0, 0, 0]),
        ("0001_0001_00_z002", "LIDC-IDRI-0001", [1, 0, 0, 0]),
        ("0003_0003_00_z000", "LIDC-IDRI-0003", [1, 1, 0, 0]),
        ("0003_0003_00_z001", "LIDC-IDRI-0003", [1, 1, 0, 0]),
    ]
    assert datalist[0]["unit"] == "HU"
    assert datalist[0]["spacing"] == [0.7, 0.7]
    volume, square = stored_values() / 2 - 1024, np.pad(np.ones((2, 2)), 1)
    images, labels = zip(*(read_crop(out, index) for index in range(4)), strict=True)
    np.testing.assert_array_equal(images[0], volume[2:6, 1:5, 1])
    np.testing.assert_array_equal(images[3], np.pad(volume, ((1, 0), (1, 0), (0, 0)), constant_values=-1024)[:4, :4, 1])
    np.testing.assert_array_equal(labels[0], [square, 0 * square, 0 * square, 0 * square])
    np.testing.assert_array_equal(labels[3], [square, square, 0 * square, 0 * square])
    assert read_parameters(out) == {
        "source": "LIDC-IDRI",
        "spatial_dims": 2,
        "spatial_size": 4,
        "spacing": 0.7,
        "min_raters": 1,
        "crowded": "central",
        "max_slice_thickness": None,
    }


@pytest.mark.parametrize(("dims", "shape"), [(2, (180, 180)), (3, (90, 90, 90))])
def test_default_grids(tmp_path, dicom_dir, dims, shape) -> None:
    out = prepare_lidc(dicom_dir, tmp_path / "crops", dims, min_raters=2, progress=False)
    assert {case["patient"] for case in crops_datalist(out)} == {"LIDC-IDRI-0003"}
    assert crops_datalist(out)[0]["spacing"] == [{2: 0.5, 3: 1.0}[dims]] * dims
    image, label = read_crop(out, 0)
    assert (image.shape, label.shape) == (shape, (4, *shape))
    assert image.min() == -1024, "air beyond the scan"


def test_readings_are_kept_in_a_file(tmp_path, dicom_dir, monkeypatch) -> None:
    asked = []
    monkeypatch.setattr(
        "monai_stochseg.data.lidc.prepare.lidc_scans", lambda path, progress: asked.append(path) or [tiny_scan()]
    )
    out = prepare_lidc(dicom_dir, tmp_path / "crops", readings=tmp_path / "readings.npz", progress=False)
    assert asked == [tmp_path / "readings.npz"]
    assert {case["patient"] for case in crops_datalist(out)} == {"LIDC-IDRI-0001"}


def test_absent_scans(tmp_path, dicom_dir, caplog) -> None:
    (dicom_dir / "LIDC-IDRI-0001").rename(tmp_path / "elsewhere")
    absent = r"1 of the 2 scans with nodules are not in .*dicom, the first patient LIDC-IDRI-0001, series 1.3.1"
    with pytest.raises(CaseError, match=rf"^dicom_dir: {absent}; download them, or go on .* missing='skip'"):
        prepare_lidc(dicom_dir, tmp_path / "crops", progress=False)
    assert not (tmp_path / "crops").exists()
    out = prepare_lidc(dicom_dir, tmp_path / "crops", spatial_size=4, missing="skip", progress=False)
    assert {case["patient"] for case in crops_datalist(out)} == {"LIDC-IDRI-0003"}
    (line,) = caplog.messages
    assert "1 of the 2 scans" in line
    assert line.endswith("going on with the other 1.")
    (dicom_dir / "LIDC-IDRI-0003").rename(tmp_path / "elsewhere too")
    with pytest.raises(CaseError, match="2 of the 2 scans with nodules are not in"):
        prepare_lidc(dicom_dir, tmp_path / "crops", missing="skip", progress=False)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"spatial_dims": 4}, CaseError, "spatial_dims must be 2 or 3, got 4"),
        ({"missing": "ignore"}, CaseError, "missing must be 'error' or 'skip', got 'ignore'"),
        ({"spacing": 0}, CaseError, "spatial_size and spacing must be positive, got 180 and 0"),
        ({"min_raters": 5}, CaseError, "min_raters must lie in 1 to 4"),
        ({"max_slice_thickness": 1.0}, CaseError, "there is no crop to write"),
    ],
)
def test_refuses(tmp_path, dicom_dir, options, error, message) -> None:
    with pytest.raises(error, match=message):
        prepare_lidc(dicom_dir, tmp_path / "crops", **options, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["dicom"]


def test_leaves_other_folders_alone(tmp_path, dicom_dir) -> None:
    with pytest.raises(FileExistsError, match="dicom exists and holds no crops"):
        prepare_lidc(dicom_dir, dicom_dir, progress=False)
    assert len(list(dicom_dir.iterdir())) == 2


def test_2d_crops_are_slices_of_the_3d_one() -> None:
    """Where the 3D grid has the scan's own slices, both are the same pixels."""
    volume = stored_values().astype(np.int16)
    nodules = lidc_nodules([replace(tiny_scan(), slice_positions=np.arange(4) * 0.7)])
    (whole,) = scan_crops(volume, nodules, 3, 4, 0.7)
    slices = list(scan_crops(volume, nodules, 2, 4, 0.7))
    assert (whole.spacing, slices[0].spacing) == ((0.7,) * 3, (0.7,) * 2)
    for index, crop in enumerate(slices):
        np.testing.assert_allclose(crop.image, whole.image[..., 1 + index], atol=1e-3)
        np.testing.assert_array_equal(crop.label, whole.label[..., 1 + index])


def test_import(tmp_path) -> None:
    for name, value in {"images/p/c": 128, "gt/p/c_l0": 255, "gt/p/c_l1": 0, "gt/p/c_l2": 255, "gt/p/c_l3": 0}.items():
        file = tmp_path / "set" / "train" / f"{name}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((6, 6), value, dtype=np.uint8)).save(file)
    out = import_lidc(tmp_path / "set", tmp_path / "crops", spacing=0.6, progress=False)
    (case,) = crops_datalist(out)
    assert (case["patient"], case["split"], case["unit"], case["spacing"]) == ("p", "train", "window", [0.6, 0.6])
    image, label = read_crop(out, 0)
    np.testing.assert_allclose(image, 128 / 255, atol=1e-3)
    assert label[:, 0, 0].tolist() == [1, 0, 1, 0]
    assert read_parameters(out) == {"source": "set", "spacing": 0.6}
