# SPDX-License-Identifier: Apache-2.0
"""Two machines of one process each, on this one."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path


class Nodes:
    """
    Two torchruns that meet on the loopback.

    Args:
        arguments: of torchrun, from the script or ``-m`` on.
        cwd: where they run, and leave ``node_0.log`` and ``node_1.log``.
    """

    def __init__(self, arguments: list[str], cwd: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.logs = [cwd / f"node_{rank}.log" for rank in range(2)]
        place = ["--nnodes", "2", "--nproc_per_node", "1", "--master_addr", "127.0.0.1", "--master_port", str(port)]
        self.processes = []
        for rank, log in enumerate(self.logs):
            command = [sys.executable, "-m", "torch.distributed.run", "--node_rank", str(rank), *place, *arguments]
            with log.open("w") as file:
                environment = {**os.environ, "OMP_NUM_THREADS": "1"}
                self.processes.append(
                    subprocess.Popen(command, cwd=cwd, env=environment, stdout=file, stderr=subprocess.STDOUT)
                )

    def wait(self, timeout: float) -> list[int | None]:
        """The status of each when both have ended, None for one that has not."""
        end = time.monotonic() + timeout
        while time.monotonic() < end and None in [process.poll() for process in self.processes]:
            time.sleep(0.1)
        return [process.poll() for process in self.processes]

    def wait_for(self, happened: Callable[[], bool], timeout: float) -> None:
        """Until something has happened; fails where a node ends before."""
        end = time.monotonic() + timeout
        while not happened():
            assert time.monotonic() < end, self.printed()
            assert [process.poll() for process in self.processes] == [None, None], self.printed()
            time.sleep(0.1)

    def worker(self, rank: int) -> int:
        """The id of the process that torchrun has started."""
        children = Path(f"/proc/{self.processes[rank].pid}/task").glob("*/children")
        return int(" ".join(file.read_text() for file in children).split()[0])

    def printed(self) -> str:
        """The end of what both have printed."""
        return "\n".join(log.read_text()[-3000:] for log in self.logs)

    def kill(self) -> None:
        """End what has not ended."""
        for rank, process in enumerate(self.processes):
            if process.poll() is None:
                os.kill(self.worker(rank), 9)
                process.kill()
                process.wait()
