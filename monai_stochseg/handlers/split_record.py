# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from ignite.engine import Engine, Events

from monai_stochseg.data import write_split


class SplitRecord:
    """
    Writes the names of the patients of each part when training starts, so that an evaluation or a resumed run reads
    the same parts. A run that fails before it starts keeps the file of an earlier one.

    Args:
        split: the cases of each part, as :py:func:`monai_stochseg.data.split_cases` returns them.
        filename: the JSON file.
    """

    def __init__(self, split: Mapping[str, Sequence[Mapping[str, Any]]], filename: str | os.PathLike[str]) -> None:
        self.split = split
        self.filename = filename

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer, after :py:class:`TrainingCheckpoint`, which moves an earlier run's file aside."""
        engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """Write now, on rank 0."""
        if engine.state.rank == 0:
            write_split(self.split, self.filename)
