# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import socket
from pathlib import Path

from filelock import FileLock, Timeout
from ignite.engine import Engine, Events

from monai_stochseg.handlers.add_last import add_last
from monai_stochseg.handlers.exceptions import on_exception

__all__ = ["FolderLock"]

_SECONDS = 1.0  # for a process that is about to end


class FolderLock:
    """
    Handler of a trainer that keeps a second training out of its folder: two would replace each other's checkpoints.

    The lock is on the file ``.training.lock`` in the folder, from the start of the run to its end, and is the system's:
    that of a process that was killed is gone with it. In distributed training rank 0 has it. An evaluation takes no
    lock: it reads the best checkpoint, which is replaced as a whole, and writes files of its own.

    Put this handler first, before those that read or write the folder.

    Args:
        folder: the folder, made when absent.

    Raises:
        RuntimeError: at the start of the run, when another training runs in the folder; names its process.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.path = Path(folder) / ".training.lock"
        self._lock = FileLock(self.path, timeout=_SECONDS)
        self._is_attached = False

    def attach(self, engine: Engine) -> None:
        """
        Args:
            engine: the trainer.
        """
        engine.add_event_handler(Events.STARTED, self._acquire)
        add_last(engine, Events.COMPLETED, self._lock.release, rank=1)

    def _acquire(self, engine: Engine) -> None:
        if engine.state.rank != 0:
            return
        if not self._is_attached:  # now, and so after the actions of others, which write
            on_exception(engine, lambda *_: self._lock.release())
            self._is_attached = True
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire()
        except Timeout:
            owner = self.path.read_text(encoding="utf-8").strip() or "of unknown number"
            raise RuntimeError(
                f"another training, process {owner}, runs in {self.path.parent}: wait for its end, or give another "
                "output_dir."
            ) from None
        self.path.write_text(f"{os.getpid()} on {socket.gethostname()}\n", encoding="utf-8")
