# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dicom_series import SIZE, stored_values, tiny_reading, tiny_scan, write_series, write_slice

from monai_stochseg.data import CaseError
from monai_stochseg.data.lidc.dicom import find_lidc_series, read_lidc_volume

pytest.importorskip("pydicom", reason="reading DICOM needs pydicom")


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
        ({"ImagePositionPatient": None, "Rows": None}, r"1-003.dcm has no ImagePositionPatient, Rows\."),
        ({"PixelData": bytes(10)}, r"the pixels of .*1-003.dcm cannot be read \(.*10"),
        ({"PixelData": None}, r"the pixels of .*1-003.dcm cannot be read"),
    ],
)
def test_refuses(series, tags, message) -> None:
    write_slice(series / "1-003.dcm", tiny_scan(), 1, **tags)
    with pytest.raises(CaseError, match=f"^patient LIDC-IDRI-0001, series 1.3.1: .*{message}"):
        read_lidc_volume(series, tiny_scan())


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
