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

from monai_stochseg.benchmark.jobs import output_to, run_job


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
    assert run_job("talking", talk, log)
    lines = log.read_text().splitlines()
    assert lines[:2] == ["earlier", "== talking"]
    assert {"a line", "another process"} <= set(lines)
    assert any(line.endswith("a warning") for line in lines)


def test_an_error_ends_the_job_alone(tmp_path) -> None:
    assert not run_job("failing", fail, tmp_path / "log")
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
        run_job("waiting", partial(wait, file), tmp_path / "log")
    assert file.read_text() == "stopped"
    assert signal.getsignal(signal.SIGTERM) == former


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
