# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import torch
from ignite.engine import Engine
from monai.handlers import IgniteMetricHandler

from monai_stochseg.data.dealt_batches import gather

__all__ = ["MetricHandler"]


class MetricHandler(IgniteMetricHandler):
    """
    MONAI's handler of a metric for evaluations in which a process may have no case: MONAI's metrics gather what the
    processes have met, which a process that has met nothing would leave out, and the others would wait for it.

    Args:
        kwargs: arguments of MONAI's IgniteMetricHandler.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)

    def iteration_completed(self, engine: Engine) -> None:
        """Update the metric, unless the batch is empty."""
        if not _is_empty(engine.state.output):
            super().iteration_completed(engine)

    def compute(self) -> Any:
        """The value over the cases of all processes."""
        metric = self.metric_fn
        own = None if metric._buffers is None else [torch.stack(rows).cpu() for rows in metric._buffers]
        gathered = gather(own)
        found = [buffers for buffers in gathered if buffers is not None]
        if len(gathered) > 1 and found:
            # what MONAI's own gathering would have left; the rows of the processes follow by rank, as there
            metric._synced_tensors = [torch.cat(parts) for parts in zip(*found, strict=True)]
            metric._synced = True
        return super().compute()


def _is_empty(output: Any) -> bool:
    return isinstance(output, list) and not output
