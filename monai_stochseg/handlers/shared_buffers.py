# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import torch.distributed as dist
from ignite.engine import Engine, Events

__all__ = ["SharedBuffers"]


class SharedBuffers:
    """
    Handler of an evaluator that gives all processes the first one's buffers, such as batch norm's statistics, when a
    run starts: what they judge is what the first one writes.

    ``DistributedDataParallel`` would do so in each call of the network, of which one process may have more than
    another. So evaluators are given the network inside, and this handler.
    """

    def attach(self, engine: Engine) -> None:
        """
        Args:
            engine: an evaluator of MONAI.
        """
        engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """Share them now."""
        if dist.is_available() and dist.is_initialized():
            for buffer in engine.network.buffers():
                dist.broadcast(buffer, 0)
