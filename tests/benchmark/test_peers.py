# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re
import subprocess
import sys


def test_peers_are_compared_or_named_as_absent(repository) -> None:
    words = [sys.executable, str(repository / "benchmarks" / "peers.py"), "--size", "16", "--repeats", "1"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, cwd=repository)
    assert done.returncode == 0, done.stderr
    rows = [line.split("|")[1:-1] for line in done.stdout.splitlines() if line.startswith("| ")][2:]
    peers = {row[1].strip() for row in rows}
    assert {"torch.distributions", "broadcast"} <= peers
    assert peers & {"lightning-uq-box", "not installed"}
    measured = [row for row in rows if row[1].strip() != "not installed"]
    assert all(re.fullmatch(r" [0-9.]+ ", cell) for row in measured for cell in row[2:])
