# SPDX-License-Identifier: Apache-2.0
"""Which process of a run is gone, when one is."""

from __future__ import annotations

import atexit
import os
import socket
import sys
import threading
import time
from contextlib import suppress
from datetime import timedelta

import torch.distributed as dist

BEAT = 1.0
GRACE = 5.0
#: Seconds without a sign of life after which a process counts as gone, and all others end.
SILENCE = float(os.environ.get("STOCHSEG_SILENCE_S", "30"))
# After an error of the communication, which has a cause, less is enough.
_SUSPICIOUS = 5.0
_COMMUNICATION = ("gloo", "nccl", "connection closed by peer", "connection reset by peer", "broken pipe")
# What a store raises that no longer answers: PyTorch's errors of communication are RuntimeErrors.
_NO_ANSWER = (RuntimeError, OSError)
_ALIVE, _DONE, _FAILED, _LEFT, _LOST = "alive", "done", "failed", "left", "lost"


class Heartbeat:
    """
    A thread that tells the other processes of a run, by the store that they met in, that this one is alive, and ends
    this process when another one is gone or has failed, with a line that says which.

    Without it the others wait in the next operation that all take part in: with gloo until the connection breaks, which
    it does not where a machine loses its power, and with nccl for ten minutes. An operation itself may take as long as
    it likes: a process that waits, loads or computes is alive.

    Args:
        rank: of this process.
        processes: how many there are.
        store: the processes' store, on a connection of its own.
    """

    def __init__(self, rank: int, processes: int, store: dist.Store) -> None:
        self.rank = rank
        self.processes = processes
        self.store = store
        self.state = _ALIVE
        self._beats = 0
        self._stopped = threading.Event()
        self._explaining = threading.Event()
        self._lock = threading.Lock()
        self._seen: dict[int, tuple[str, float]] = {}
        self._beat()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Begin, when all processes have made theirs."""
        self._thread.start()
        atexit.register(self._leave)

    def stop(self, state: str = _DONE) -> None:
        """Say that this process has ended as it should, and look after the others no longer."""
        self.state = state
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(GRACE)
        with suppress(*_NO_ANSWER):  # the first process may have ended, and the store with it
            self._beat()
        atexit.unregister(self._leave)

    def explain(self, error: BaseException) -> str | None:
        """
        What to say below an uncaught error of this process: which process is gone, where the error is one of the
        communication, else None, and the others are told of the error.

        Args:
            error: with its causes.
        """
        self._explaining.set()
        if not is_of_communication(error):
            self.state = f"{_FAILED} by {type(error).__name__}: {str(error).strip()[:200]}"
            with suppress(*_NO_ANSWER):
                self._beat()
            return None
        self.state = _LOST  # the others look for the cause elsewhere
        end = time.monotonic() + 3 * _SUSPICIOUS
        while time.monotonic() < end:
            time.sleep(BEAT / 2)
            try:
                found = self._gone(_SUSPICIOUS, after_error=True)
            except _NO_ANSWER:
                return _store_gone()
            if found:
                return _line(found)
        return None

    def _beat(self) -> None:
        self._beats += 1
        self.store.set(_key(self.rank), f"{self._beats}\n{_here()}\n{self.state}")

    def _leave(self) -> None:
        """At the end of a process that neither failed nor stopped the heartbeat, such as after SIGTERM."""
        self.stop(_LEFT if self.state == _ALIVE else self.state)

    def _run(self) -> None:
        last = time.monotonic()
        while not self._stopped.wait(BEAT):
            now = time.monotonic()
            if now - last > SILENCE / 2:  # this process was suspended, and knows nothing of the others
                self._seen.clear()
            last = now
            try:
                self._beat()
                found = self._gone(SILENCE)
            except _NO_ANSWER:
                self._end(_store_gone())
                return
            if found:
                self._end(_line(found))
                return

    def _gone(self, silence: float, after_error: bool = False) -> dict[int, str]:
        """What has become of the processes that are gone, by rank."""
        with self._lock:
            values = self.store.multi_get([_key(rank) for rank in range(self.processes)])
            now, found = time.monotonic(), {}
            for rank, value in enumerate(values):
                text = value.decode()
                before, since = self._seen.get(rank, ("", now))
                self._seen[rank] = (text, now if text != before else since)
                _, where, state = text.split("\n", 2)
                if rank == self.rank or state == _DONE:
                    continue
                if state.startswith(_FAILED):
                    found[rank] = f"{where} {state}"
                elif state == _LEFT and after_error:
                    found[rank] = f"{where} was told to stop"
                elif state == _ALIVE and text == before and now - since > silence:
                    found[rank] = (
                        f"{where} has given no sign of life for {now - since:.0f} s: it was killed, or its machine "
                        "or the network is gone"
                    )
            return found

    def _end(self, line: str) -> None:
        """End this process, unless it ends by itself: it may just have noticed too."""
        if self._explaining.wait(GRACE) or self._stopped.is_set():
            return
        print(line, file=sys.stderr, flush=True)
        os._exit(1)  # the main thread waits for the other process, and no exception reaches it there


def start_heartbeat() -> Heartbeat | None:
    """The heartbeat of this process, where torchrun's variables say how the processes meet; all must call it."""
    address, port = os.environ.get("MASTER_ADDR"), os.environ.get("MASTER_PORT")
    if not address or not port:
        return None
    store = dist.TCPStore(
        address, int(port), is_master=False, wait_for_workers=False, timeout=timedelta(seconds=SILENCE)
    )
    # a restart by torchrun finds the keys of the run before it
    attempt = "/".join(os.environ.get(name, "0") for name in ("TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT"))
    prefix = f"monai_stochseg/heartbeat/{attempt}"
    heartbeat = Heartbeat(dist.get_rank(), dist.get_world_size(), dist.PrefixStore(prefix, store))
    heartbeat.start()
    return heartbeat


def is_of_communication(error: BaseException | None) -> bool:
    """Whether an error, or what it came from, is that another process did not answer."""
    while error is not None:
        text = str(error).lower()
        if isinstance(error, dist.DistError) or (
            isinstance(error, (RuntimeError, OSError)) and any(part in text for part in _COMMUNICATION)
        ):
            return True
        error = error.__cause__ or error.__context__
    return False


def _key(rank: int) -> str:
    return str(rank)


def _here() -> str:
    return f"process {os.getpid()} on {socket.gethostname()},"


def _line(found: dict[int, str]) -> str:
    gone = "; ".join(f"rank {rank}, {what}" for rank, what in found.items())
    return f"This run ends, for {gone}. --resume True goes on from the last whole epoch."


def _store_gone() -> str:
    return (
        f"This run ends, for rank 0 is gone: the store on its machine, {os.environ.get('MASTER_ADDR')}:"
        f"{os.environ.get('MASTER_PORT')}, no longer answers, since torchrun there has ended or the network is gone. "
        "--resume True goes on from the last whole epoch."
    )
