# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import mlflow
import pytest
from disc_crops import disc_crops

from monai_stochseg.data.lidc import cache, read_lidc_database, write_crops

SIZES = {2: 16, 3: 12}
SCANS = (14, 252, 792)  # of the database; the first is LIDC-IDRI-0003


@pytest.fixture(scope="session")
def lidc_crops(tmp_path_factory) -> dict[int, str]:
    """Folders of crops by spatial_dims."""
    folder = tmp_path_factory.mktemp("lidc")
    for dims, size in SIZES.items():
        write_crops(disc_crops(dims, size), folder / f"{dims}d", {"simulated": True})
    return {dims: str(folder / f"{dims}d") for dims in SIZES}


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
        folder.mkdir(exist_ok=True)
        shutil.copy(mlflow_database, folder)
        return str(folder)

    return make
