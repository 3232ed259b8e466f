# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import inspect
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import mlflow
import pytest
from disc_crops import disc_crops
from matplotlib.figure import Figure

from monai_stochseg.data import (
    simulated_brain_folder,
    simulated_cityscapes_folder,
    simulated_kidney_folder,
    simulated_prostate_folder,
)
from monai_stochseg.data.lidc import cache
from monai_stochseg.data.lidc.crops_folder import write_crops
from monai_stochseg.data.lidc.database import read_lidc_database
from monai_stochseg.visualize import plot_samples

SIZES = {2: 16, 3: 12}
SCANS = (14, 252, 792)  # of the database; the first is LIDC-IDRI-0003


@pytest.fixture(scope="session")
def lidc_crops(tmp_path_factory) -> dict[int, str]:
    """Folders of crops by spatial_dims."""
    folder = tmp_path_factory.mktemp("lidc")
    for dims, size in SIZES.items():
        write_crops(disc_crops(dims, size), folder / f"{dims}d", {"simulated": True})
    return {dims: str(folder / f"{dims}d") for dims in SIZES}


@pytest.fixture(scope="session")
def folders(tmp_path_factory, lidc_crops) -> dict[str, str]:
    """A tiny data set of each task, by the name of its overlay."""
    folder = tmp_path_factory.mktemp("simulated")
    brains = simulated_brain_folder(folder / "brains", 4, (24, 24, 24))
    return {
        "brats": brains,
        "brats_whole": brains,
        "cityscapes": simulated_cityscapes_folder(folder / "scenes", 8, (32, 64)),
        "kits": simulated_kidney_folder(folder / "kits", 4, (16, 40, 40), (10.0, 6.0, 6.0)),
        "lidc": lidc_crops[2],
        "lidc_3d": lidc_crops[3],
        "prostatex": simulated_prostate_folder(folder / "prostatex", 4, (16, 32, 32), (4.5, 2.5, 2.5)),
    }


@pytest.fixture
def few_scans(monkeypatch) -> None:
    """The scan of the real data, and two more, in the place of the whole database."""
    scans = read_lidc_database(SCANS, progress=False)
    monkeypatch.setattr(cache, "read_lidc_database", lambda progress: scans)
    monkeypatch.setattr("monai_stochseg.data.lidc.prepare.read_lidc_database", lambda progress: scans)


@pytest.fixture
def manifest(tmp_path) -> Callable[[Sequence[str]], str]:
    """Make a manifest of one's own, with these patients in train."""

    def make(patients: Sequence[str]) -> str:
        path = tmp_path / "own.json"
        path.write_text(json.dumps({"name": "own", "train": list(patients), "validation": [], "test": []}))
        return str(path)

    return make


@pytest.fixture(scope="session")
def mlflow_database(tmp_path_factory) -> Path:
    """MLflow takes seconds to make its tables."""
    path = tmp_path_factory.mktemp("mlflow") / "mlruns.db"
    mlflow.MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def make_output(tmp_path, mlflow_database) -> Callable[[str], str]:
    """Make an output folder with MLflow's tables."""

    def make(name: str = "output") -> str:
        folder = tmp_path / name
        for each in (folder, folder / "calibration"):
            each.mkdir(parents=True, exist_ok=True)
            if not (each / mlflow_database.name).exists():
                shutil.copy(mlflow_database, each)
        return str(folder)

    return make


@pytest.fixture
def real_figures() -> None:
    """Ask for it where the figures themselves matter."""


@pytest.fixture(autouse=True)
def _quick_figures(request, monkeypatch) -> None:
    """Figures of samples are most of a tiny run's time: an empty one in their place, of the same arguments."""
    if "real_figures" in request.fixturenames or request.node.get_closest_marker("matrix"):
        return
    arguments = inspect.signature(plot_samples)

    def quick(*args: object, **kwargs: object) -> Figure:
        arguments.bind(*args, **kwargs)
        return Figure()

    monkeypatch.setattr("monai_stochseg.handlers.sample_figure.plot_samples", quick)
