# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from dicom_series import SIZE, stored_values, tiny_reading, tiny_scan, write_series, write_slice

from monai_stochseg.data import CaseError
from monai_stochseg.data.lidc.dicom import find_lidc_series, read_lidc_volume

pytest.importorskip("pydicom", reason="reading DICOM needs pydicom")


NEEDED = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows", "RescaleSlope", "RescaleIntercept")


@pytest.fixture
def series(tmp_path) -> Path:
    return write_series(tmp_path / "LIDC-IDRI-0001" / "01-01-2000-30178" / "3000566-03192", tiny_scan())


def test_finds_series_by_their_headers(tmp_path, series) -> None:
    other = write_series(tmp_path / "LIDC-IDRI-0002" / "1.2" / "1.3.2", tiny_scan(number=2))
    (series / "._1-000.dcm").write_bytes(b"macOS")
    (series / "069.xml").write_text("<readings/>")
    (tmp_path / "LICENSE").write_text("CC BY 3.0")
    (tmp_path / "linked").mkdir()
    (tmp_path / ".hidden").symlink_to(series)
    assert find_lidc_series(tmp_path) == {"1.3.1": str(series), "1.3.2": str(other)}
    (tmp_path / "linked" / "scan").symlink_to(series)
    (tmp_path / "linked" / "round").symlink_to(tmp_path)
    assert find_lidc_series(tmp_path) == {"1.3.1": str(series), "1.3.2": str(other)}
    write_series(tmp_path / "linked" / "copy", tiny_scan())
    with pytest.raises(CaseError, match=r"^dicom_dir: series 1.3.1 is found twice, in .*3000566-03192 and .*; remove"):
        find_lidc_series(tmp_path)


def test_find_refuses(tmp_path) -> None:
    with pytest.raises(CaseError, match=r"dicom_dir: there is no folder .*nowhere"):
        find_lidc_series(tmp_path / "nowhere")
    write_slice(tmp_path / "a" / "1.dcm", tiny_scan(), 0, SeriesInstanceUID=None)
    with pytest.raises(CaseError, match=r"dicom_dir: .*1.dcm has no SeriesInstanceUID"):
        find_lidc_series(tmp_path)
    (tmp_path / "1.dcm").write_bytes(b"")
    with pytest.raises(CaseError, match=r"dicom_dir: .*1.dcm cannot be read as DICOM .*download it again"):
        find_lidc_series(tmp_path)


def test_volume_is_hounsfield_and_upwards(series) -> None:
    volume = read_lidc_volume(series, tiny_scan())
    assert volume.dtype == np.int16
    np.testing.assert_array_equal(volume, stored_values() / 2 - 1024)


def test_lowest_instance_number_stays(series) -> None:
    """Of two slices at one position, as in pylidc; one beyond the database's positions is left out."""
    brighter = (stored_values()[..., 0] + 8).astype("<i2").tobytes()
    write_slice(series / "0-000.dcm", tiny_scan(), 0, PixelData=brighter, InstanceNumber=11)
    write_slice(series / "9-000.dcm", tiny_scan(), 1, PixelData=brighter, InstanceNumber=1)
    write_slice(series / "9-001.dcm", tiny_scan(), 2, ImagePositionPatient=[0, 0, -6], InstanceNumber=1, Rows=4)
    volume, expected = read_lidc_volume(series, tiny_scan()), stored_values() / 2 - 1024
    expected[..., 1] = expected[..., 0] + 4
    np.testing.assert_array_equal(volume, expected)


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ({"SeriesInstanceUID": "1.9"}, r"1-003.dcm is of the series 1.9\."),
        ({"PixelSpacing": [0.7, 0.702]}, r"1-003.dcm has pixels of \[0.7, 0.702\] mm, but the database 0.7 mm"),
        ({"Rows": 4}, r"slices differ in size, \[\(4, 6\), \(8, 6\)\] rows and columns"),
        ({"ImagePositionPatient": [0, 0, -7.4]}, r"1 of 4 slices are missing in .*, the lowest at z = -7.5 mm"),
        *(({tag: None}, rf"1-003.dcm has no {tag}; download the series again") for tag in NEEDED),
        ({"ImagePositionPatient": -7.5}, r"1-003.dcm has the ImagePositionPatient \[-7.5\], but 3 finite numbers are"),
        (
            {"ImagePositionPatient": [0, 0, math.nan]},
            r"1-003.dcm has the ImagePositionPatient \[0.0, 0.0, nan\], but 3",
        ),
        ({"RescaleSlope": math.nan}, r"1-003.dcm has the RescaleSlope \[nan\], but 1 finite number is"),
        ({"RescaleIntercept": math.inf}, r"1-003.dcm has the RescaleIntercept \[inf\], but 1 finite number is"),
        ({"RescaleSlope": 0}, r"1-003.dcm has a RescaleSlope of 0"),
        ({"PixelSpacing": 0.7}, r"1-003.dcm has the PixelSpacing \[0.7\], but 2 finite numbers are needed"),
        ({"GantryDetectorTilt": -12}, r"1-003.dcm is no upright axial slice, .* a gantry tilt of -12 degrees; leave"),
        ({"ImageOrientationPatient": [1, 0, 0, 0, 0.98, -0.2]}, r"1-003.dcm is no upright axial slice, .*0.98, -0.2\]"),
        ({"ImagePositionPatient": [0, 0.5, -7.5]}, r"slices lie up to 0.5 mm aside of the lowest one"),
        (
            {
                "SamplesPerPixel": 3,
                "BitsAllocated": 8,
                "BitsStored": 8,
                "HighBit": 7,
                "PhotometricInterpretation": "RGB",
                "PlanarConfiguration": 0,
                "PixelRepresentation": 0,
                "PixelData": bytes(144),
            },
            r"has pixels of the shape \(8, 6, 3",
        ),
        ({"PixelData": bytes(10)}, r"the pixels of .*1-003.dcm cannot be read \(.*10"),
        ({"PixelData": None}, r"the pixels of .*1-003.dcm cannot be read"),
    ],
)
def test_refuses(series, tags, message) -> None:
    write_slice(series / "1-003.dcm", tiny_scan(), 1, **tags)
    with pytest.raises(CaseError, match=f"^patient LIDC-IDRI-0001, series 1.3.1: .*{message}"):
        read_lidc_volume(series, tiny_scan())


@pytest.mark.parametrize(
    ("tags", "stored", "expected"),
    [
        ({"PixelRepresentation": 0, "PixelPaddingValue": 63536}, 63536, -1024),
        ({"PixelRepresentation": 0, "PixelPaddingValue": 63000, "PixelPaddingRangeLimit": 65535}, 63536, -1024),
        ({"PixelRepresentation": 0, "PixelPaddingValue": 63536}, 63535, 30743.5),  # no padding, and not white by it
        ({"PixelPaddingValue": -2000}, 63536, -2024),  # darker than air, as pylidc has it
        ({}, 63536, -2024),
    ],
)
def test_padding_is_air(series, tags, stored, expected) -> None:
    """Where it is stored unsigned, it would be brighter than bone."""
    pixels = stored_values()[..., 1]
    pixels[0] = stored
    write_slice(series / "1-003.dcm", tiny_scan(), 1, **tags, PixelData=pixels.astype("<u2").tobytes())
    volume = read_lidc_volume(series, tiny_scan())
    assert (volume[0, :, 1] == np.round(expected)).all()
    np.testing.assert_array_equal(volume[1:], stored_values()[1:] / 2 - 1024)


def test_small_tilts_and_shifts_stay(series) -> None:
    """They move a nodule's slices by less than a pixel."""
    k = 3
    tags = {"GantryDetectorTilt": 0.3, "ImagePositionPatient": [0.05, -0.05, tiny_scan().slice_positions[k]]}
    write_slice(series / "1-001.dcm", tiny_scan(), k, **tags)
    assert read_lidc_volume(series, tiny_scan()).shape == SIZE


def test_names_without_suffix(tmp_path, series) -> None:
    """As scanners and archives write them; a file that is not DICOM does not matter."""
    expected = read_lidc_volume(series, tiny_scan())
    for k, file in enumerate(sorted(series.glob("*.dcm"))):
        file.rename(series / (f"IM{k}", "1.3.6.1.4", "1-000.DCM", "00000003")[k])
    (series / "notes").write_text("x" * 200)
    (series / "DICOMDIR").write_bytes(bytes(128) + b"DICM")
    assert find_lidc_series(tmp_path) == {"1.3.1": str(series)}
    np.testing.assert_array_equal(read_lidc_volume(series, tiny_scan()), expected)


def test_refuses_missing_slices_and_damaged_files(series) -> None:
    (series / "1-000.dcm").unlink()
    (series / "1-003.dcm").unlink()
    with pytest.raises(CaseError, match=r"0001, series 1.3.1: 2 of 4 slices are missing .* at z = -10 mm; download"):
        read_lidc_volume(series, tiny_scan())
    (series / "1-001.dcm").write_bytes(b"<html>502</html>")
    with pytest.raises(CaseError, match=r"0001, series 1.3.1: .*1-001.dcm cannot be read as DICOM"):
        read_lidc_volume(series, tiny_scan())


@pytest.mark.parametrize("origin", [(-1, 2, 1), (7, 2, 1), (3, 5, 1), (3, 2, 3)])
def test_refuses_reading_outside(series, origin) -> None:
    scan = tiny_scan(tiny_reading(), tiny_reading(84, origin))
    voxels = rf"\[{origin[0]}, {origin[1]}, {origin[2]}\] to \[{origin[0] + 1}, {origin[1] + 1}, {origin[2] + 1}\]"
    with pytest.raises(CaseError, match=rf"series 1.3.1: reading 84 spans the voxels {voxels}, .* of \(8, 6, 4\)"):
        read_lidc_volume(series, scan)
    edge = tiny_scan(tiny_reading(), tiny_reading(84, tuple(size - 2 for size in SIZE)))
    assert read_lidc_volume(series, edge).shape == SIZE
