# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from ignite.engine import Engine
from monai.bundle import ConfigWorkflow

from monai_stochseg.bundle.run_config import RunConfig
from monai_stochseg.bundle.version import run_versions


@pytest.fixture
def engine(tmp_path) -> Engine:
    made = Engine(lambda engine, batch: None)
    made.state.rank = 0
    RunConfig(str(tmp_path / "output"), {"simulated": True}).attach(made)
    return made


class Run(ConfigWorkflow):
    """A workflow whose run is an engine's."""

    engine: Engine

    def run(self) -> Any:
        return self.engine.run([1])


def run(folder, engine: Engine, **given: Any) -> None:
    (folder / "train.json").write_text(json.dumps({"rank": 1, "run": "$None"}))
    made = Run(str(folder / "train.json"), logging_file=False, meta_file=None, **given)
    made.engine = engine
    made.initialize()
    made.run()


def test_the_configuration_is_that_of_the_workflow_with_its_overrides(tmp_path, engine) -> None:
    run(tmp_path, engine, rank=7)
    found = json.loads((tmp_path / "output" / "config.json").read_text())
    data = {"trained_by": run_versions(), "trained_on": {"simulated": True}}
    assert found == {"rank": 7, "run": "$None", **data}
    assert found["trained_by"].keys() >= {"monai_stochseg", "monai", "torch", "numpy"}


def test_a_trainer_without_a_workflow_has_none(tmp_path, engine) -> None:
    engine.run([1])
    assert not list(tmp_path.iterdir())


def test_what_is_no_json_is_said(tmp_path, engine, caplog) -> None:
    with caplog.at_level(logging.WARNING):
        run(tmp_path, engine, rank=object())
    assert "config.json is not written, the configuration is no JSON" in caplog.text
    assert not (tmp_path / "output").exists()


def test_the_first_process_writes(tmp_path, engine) -> None:
    engine.state.rank = 1
    run(tmp_path, engine)
    assert not (tmp_path / "output").exists()
