# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import pytest
import torch

from monai_stochseg.benchmark.jobs import output_to, run_jobs


def talk() -> None:
    logging.getLogger("monai").warning("a warning")
    print("a line")
    subprocess.run([sys.executable, "-S", "-c", "print('another process')"], check=True)


def fail() -> None:
    try:
        raise ValueError("the cause")
    except ValueError as error:
        raise RuntimeError("its wrapping") from error


def wait(file: Path) -> None:
    def stop(number: int, frame: object) -> None:
        file.write_text("stopped")
        sys.exit(143)

    signal.signal(signal.SIGTERM, stop)
    file.write_text("running")
    time.sleep(100)


def test_output_goes_to_the_log(tmp_path) -> None:
    log = tmp_path / "log"
    log.write_text("earlier\n")
    assert run_jobs({"talking": talk}, log) == {"talking": True}
    lines = log.read_text().splitlines()
    assert lines[:2] == ["earlier", "== talking"]
    assert {"a line", "another process"} <= set(lines)
    assert any(line.endswith("a warning") for line in lines)


def test_an_error_ends_the_job_alone(tmp_path) -> None:
    assert run_jobs({"failing": fail, "talking": talk}, tmp_path / "log") == {"failing": False, "talking": True}
    log = (tmp_path / "log").read_text()
    assert "ValueError: the cause" in log
    assert "RuntimeError: its wrapping" in log


@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_a_signal_ends_the_job_too(tmp_path, number, error) -> None:
    file = tmp_path / "state"

    def interrupt() -> None:
        while not file.is_file() or file.read_text() != "running":
            time.sleep(0.05)
        os.kill(os.getpid(), number)

    former = signal.getsignal(signal.SIGTERM)
    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(error):
        run_jobs({"waiting": partial(wait, file), "never": talk}, tmp_path / "log")
    assert file.read_text() == "stopped"
    assert "== never" not in (tmp_path / "log").read_text()
    assert signal.getsignal(signal.SIGTERM) == former


def meet(own: Path, other: Path) -> None:
    own.write_text(str(torch.get_num_threads()))
    end = time.monotonic() + 60
    while not other.is_file() and time.monotonic() < end:
        time.sleep(0.01)
    print(f"{own.name} met {other.is_file()}")


def test_two_at_a_time(tmp_path) -> None:
    """Each waits for the other; their output is not mixed, and the threads are shared."""
    places = tmp_path / "a", tmp_path / "b"
    jobs = {"first": partial(meet, *places), "second": partial(meet, *places[::-1]), "third": talk}
    begun: list[str] = []
    threads = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        done = run_jobs(jobs, tmp_path / "log", workers=2, started=begun.append)
    finally:
        torch.set_num_threads(threads)
    assert done == {"first": True, "second": True, "third": True}
    assert begun == list(jobs)
    lines = (tmp_path / "log").read_text().splitlines()
    assert lines[lines.index("== first") + 1] == "a met True"
    assert lines[lines.index("== second") + 1] == "b met True"
    assert [place.read_text() for place in places] == ["2", "2"]
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b", "log"}


def test_output_comes_back(tmp_path, capfd) -> None:
    def speak() -> None:
        with output_to(tmp_path / "log"):
            os.write(1, b"low\n")
            os.write(2, b"error\n")
            raise ValueError("within")

    with pytest.raises(ValueError, match="within"):
        speak()
    os.write(1, b"after\n")
    assert capfd.readouterr() == ("after\n", "")
    assert (tmp_path / "log").read_text() == "low\nerror\n"
