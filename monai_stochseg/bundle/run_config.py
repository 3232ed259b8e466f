# SPDX-License-Identifier: Apache-2.0
"""The configuration of a run, kept beside its checkpoints."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events

from monai_stochseg.bundle.root import running_workflows
from monai_stochseg.bundle.version import run_versions
from monai_stochseg.data import new_file

__all__ = ["CONFIG_FILE", "TRAINED_BY", "TRAINED_ON", "RunConfig"]

CONFIG_FILE = "config.json"
TRAINED_BY = "trained_by"  # the entry of the file that says which versions trained
TRAINED_ON = "trained_on"  # and which data: those of the output's folder may be gone when it is packed


class RunConfig:
    """
    Handler of a trainer that writes the configuration which is run, all files and overrides in one, to
    ``config.json``, the versions under ``trained_by`` (of this package with its commit, of MONAI, PyTorch and numpy),
    and what the data are under ``trained_on``: ``python -m monai_stochseg pack`` makes a bundle of it.

    A trainer that no ``ConfigWorkflow`` runs has none, and nothing is written.

    Args:
        output_dir: folder of the checkpoints.
        data: what the data are, such as ``{"simulated": True}``; without names of patients.
    """

    def __init__(self, output_dir: str, data: Mapping[str, Any] | None = None) -> None:
        self.path = Path(output_dir, CONFIG_FILE)
        self.data = dict(data or {})

    def attach(self, engine: Engine) -> None:
        """
        Args:
            engine: the trainer.
        """
        engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """Write the file, in the first process."""
        workflow = next(running_workflows(), None)
        if workflow is None or engine.state.rank != 0:
            return
        config = {key: value for key, value in workflow.parser.get().items() if key != "_meta_"}
        try:
            text = json.dumps({**config, TRAINED_BY: run_versions(), TRAINED_ON: self.data}, indent=4)
        except TypeError as error:  # an override in Python need not be JSON
            engine.logger.warning(f"{self.path} is not written, the configuration is no JSON: {error}")
            return
        with new_file(self.path) as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")
