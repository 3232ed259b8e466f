# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from monai_stochseg.handlers import MLFlowTracker


@pytest.fixture(autouse=True)
def _no_server_from_outside(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture(scope="session")
def database(tmp_path_factory):
    """A folder whose MLflow database exists already, for making one takes seconds."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
        folder = tmp_path_factory.mktemp("runs with space")
        MLFlowTracker(folder).close()
    return folder
