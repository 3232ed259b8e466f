# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import sys
from typing import Any

import ignite.distributed as idist
from ignite.engine import Engine
from ignite.handlers import ProgressBar

from monai_stochseg.handlers.iteration_loss import iteration_loss


class TrainingProgress(ProgressBar):
    """
    Ignite's progress bar with the training loss, on the first process and on a terminal only.

    Args:
        kwargs: arguments of ignite's ProgressBar.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"desc": "training", **kwargs})

    def attach(self, engine: Engine, *args: Any, **kwargs: Any) -> None:
        """Attach to a trainer whose output has a ``loss``."""
        if idist.get_rank() == 0 and sys.stderr.isatty():
            super().attach(engine, output_transform=lambda output: {"loss": iteration_loss(output)})
