# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from monai_stochseg.data.lidc import load_manifest
from monai_stochseg.data.lidc.crops import LIDCCrop
from monai_stochseg.data.lidc.crops_folder import write_crops

# Two workers of two threads each would wait for each other on two cores; processes that tests start inherit it.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)

# No test needs the network, and MLflow would report its use over it.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

# Files whose tests take longest come first, so that no worker is left with them alone at the end.
LONGEST = ("test_tutorials.py", "test_command.py", "test_engines.py")

REPOSITORY = Path(__file__).resolve().parents[1]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("there is no GPU")


@pytest.fixture(autouse=True)
def _seed() -> None:
    """Each test draws from the same state, whichever ran before it."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _logging() -> Iterator[None]:
    """A run in this process leaves the root logger handlers on the stream of the test, which is closed then."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real patients; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("STOCHSEG_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set STOCHSEG_TEST_DATA")
    return folder


@pytest.fixture(scope="session")
def crops_folder(tmp_path_factory) -> Path:
    """Crops of 16 x 16 in which some readers drew discs of several sizes, of patients of the manifest kohl."""
    rng = np.random.default_rng(0)
    distance = np.hypot(*np.mgrid[-8:8, -8:8])
    crops = []
    for part, patients in load_manifest("kohl").parts.items():
        for patient in patients[: {"train": 8, "validation": 2, "test": 6}[part]]:
            label = np.stack([distance < radius for radius in rng.integers(2, 6, 4)])
            label[: rng.integers(3)] = False
            image = (-800 + 600 * label.mean(0) + 30 * rng.standard_normal(distance.shape)).astype(np.float32)
            crops.append(LIDCCrop(f"{patient}_00", patient, image, label, label.any((1, 2)), (1.0, 1.0)))
    folder = tmp_path_factory.mktemp("lidc") / "crops"
    write_crops(crops, folder, {"simulated": True})
    return folder
