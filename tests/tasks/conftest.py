# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from monai_stochseg.data import (
    simulated_brain_folder,
    simulated_cityscapes_folder,
    simulated_kidney_folder,
    simulated_prostate_folder,
)


@pytest.fixture(scope="session")
def brains(tmp_path_factory) -> str:
    """Four patients of four raters."""
    return simulated_brain_folder(tmp_path_factory.mktemp("brats") / "data", 4, (24, 24, 24))


@pytest.fixture(scope="session")
def kidneys(tmp_path_factory) -> str:
    """Four patients."""
    return simulated_kidney_folder(tmp_path_factory.mktemp("kits") / "data", 4, (16, 40, 40), (10.0, 6.0, 6.0))


@pytest.fixture(scope="session")
def prostates(tmp_path_factory) -> str:
    """Four patients."""
    return simulated_prostate_folder(tmp_path_factory.mktemp("prostatex") / "data", 4, (16, 32, 32), (4.5, 2.5, 2.5))


@pytest.fixture(scope="session")
def streets(tmp_path_factory) -> str:
    """Eight scenes."""
    return simulated_cityscapes_folder(tmp_path_factory.mktemp("cityscapes") / "data", 8, (32, 64))
