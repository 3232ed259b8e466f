# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from monai_stochseg.data.lidc import cache, crops_datalist, lidc_nodules, simulated_lidc_folder
from monai_stochseg.data.lidc import simulated_lidc as module
from monai_stochseg.data.lidc.crops import LIDCCrop, crop_grids, crop_label
from monai_stochseg.data.lidc.crops_folder import read_crop, read_parameters, write_crops
from monai_stochseg.data.lidc.simulated_ct import simulate_ct


@pytest.fixture(autouse=True)
def few_scans(scans, monkeypatch) -> None:
    """A few scans in the place of all."""
    monkeypatch.setattr(cache, "read_lidc_database", lambda progress: scans)


def test_round_trip(tmp_path, scans) -> None:
    folder = simulated_lidc_folder(tmp_path / "new" / "lidc", num_patients=None, spatial_size=16, slices_per_nodule=2)
    nodules = {nodule.name: nodule for nodule in lidc_nodules(scans)}
    crops = crops_datalist(folder)
    assert {crop["patient"] for crop in crops} == {nodule.patient_id for nodule in nodules.values()}
    for index in (0, len(crops) - 1):
        crop = crops[index]
        assert (crop["unit"], crop["spacing"]) == ("HU", [0.75, 0.75])
        nodule = nodules[crop["name"].rpartition("_z")[0]]
        grid = dict(crop_grids(nodule, 2, 16, 0.75))[crop["name"]]
        image, label = read_crop(folder, index)
        np.testing.assert_array_equal(image, simulate_ct(nodule, grid)[..., 0].round())
        np.testing.assert_array_equal(label, crop_label(nodule, grid)[..., 0])
        assert crop["drawn"] == nodule.drawn.astype(int).tolist()
    assert Path(folder).with_name("lidc_readings.npz").is_file()


def test_parameters_say_that_it_is_simulated(tmp_path) -> None:
    folder = simulated_lidc_folder(tmp_path / "lidc", 3, num_patients=1, readings=tmp_path / "readings.npz")
    assert read_parameters(folder) == {
        "simulated": True,
        "simulation": 1,
        "spatial_dims": 3,
        "num_patients": 1,
        "spatial_size": 32,
        "spacing": 1.5,
        "slices_per_nodule": None,
        "seed": 0,
    }
    assert read_crop(folder, 0)[1].shape == (4, 32, 32, 32)
    assert (tmp_path / "readings.npz").is_file()


def test_fewer_patients_are_a_part_of_more(tmp_path) -> None:
    one, two = (
        crops_datalist(simulated_lidc_folder(tmp_path / f"{n}", num_patients=n, spatial_size=8)) for n in (1, 2)
    )
    assert {crop["name"] for crop in one} < {crop["name"] for crop in two}
    assert len({crop["patient"] for crop in two}) == 2


def test_reused_and_not_replaced(tmp_path) -> None:
    folder = Path(simulated_lidc_folder(tmp_path / "lidc", num_patients=1, spatial_size=8))
    before = (folder / "crops.json").stat().st_mtime_ns
    simulated_lidc_folder(folder, num_patients=1, spatial_size=8)
    assert (folder / "crops.json").stat().st_mtime_ns == before
    with pytest.raises(FileExistsError, match=r"lidc was simulated with .*; name another folder, or remove this one"):
        simulated_lidc_folder(folder, num_patients=1, spatial_size=8, seed=1)
    parameters = read_parameters(folder)
    assert parameters is not None
    assert parameters["seed"] == 0


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("image.npy", b"\x93NUMPY", "image.npy cannot be read"),
        ("readings.npy", None, "readings.npy cannot be read"),
        ("crops.json", b"{", "its crops.json is damaged"),
    ],
)
def test_damaged_folder_is_made_anew(tmp_path, caplog, name, content, reason) -> None:
    folder = Path(simulated_lidc_folder(tmp_path / "lidc", num_patients=1, spatial_size=8))
    whole = (folder / name).read_bytes()
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content)
    simulated_lidc_folder(folder, num_patients=1, spatial_size=8)
    assert (folder / name).read_bytes() == whole
    assert "is made again" in caplog.text
    assert reason in caplog.text


def test_interruption_leaves_nothing(tmp_path, monkeypatch) -> None:
    folder = tmp_path / "lidc"

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "SimulatedCT", interrupt)
    with pytest.raises(KeyboardInterrupt):
        simulated_lidc_folder(folder, num_patients=1, spatial_size=8)
    assert {path.name for path in tmp_path.iterdir() if path.suffix != ".lock"} == {"lidc_readings.npz"}


def test_made_once_for_all(tmp_path, monkeypatch) -> None:
    calls = []
    write = module.write_crops

    def counted(crops, folder, parameters):
        calls.append(parameters)
        write(crops, folder, parameters)

    monkeypatch.setattr(module, "write_crops", counted)
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda _: simulated_lidc_folder(tmp_path / "lidc", num_patients=1, spatial_size=8), range(3)))
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_patients": 0}, "num_patients must be at least 1, or None for all, got 0"),
        ({"num_patients": 6}, "num_patients must be at most 5, the number with nodules, got 6"),
        ({"spatial_dims": 4}, "spatial_dims must be 2 or 3, got 4"),
        ({"spacing": -1.0}, "spatial_size and spacing must be positive, got 64 and -1.0"),
        ({"slices_per_nodule": 0}, "slices_per_nodule must be at least 1, got 0"),
    ],
)
def test_bad_options(tmp_path, options, message) -> None:
    with pytest.raises(ValueError, match=message):
        simulated_lidc_folder(tmp_path / "lidc", **({"num_patients": 1} | options))
    assert not (tmp_path / "lidc").exists()


def test_other_content_is_left_alone(tmp_path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="holds no crops; name another folder"):
        simulated_lidc_folder(tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_crops_of_a_real_ct_are_left_alone(tmp_path) -> None:
    crop = LIDCCrop("a", "p", np.zeros((4, 4)), np.zeros((4, 4, 4), bool), np.ones(4, bool), (1.0, 1.0))
    write_crops([crop], tmp_path / "lidc", {"spatial_dims": 2})
    with pytest.raises(FileExistsError, match="holds crops that were not simulated"):
        simulated_lidc_folder(tmp_path / "lidc", num_patients=1)
    assert len(crops_datalist(tmp_path / "lidc")) == 1
