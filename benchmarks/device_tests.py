# SPDX-License-Identifier: Apache-2.0
"""The tests that are marked ``gpu``, in a process of pytest."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
LIMIT = 600  # seconds


def gpu_tests(results: Path) -> dict[str, Any]:
    """
    How many passed, failed as is expected, or were skipped.

    Args:
        results: a file for pytest's results.

    Raises:
        RuntimeError: when one failed, or pytest has no result.
    """
    # only the files that have such tests: collecting all takes longer than these tests
    files = [str(file) for file in (REPOSITORY / "tests").rglob("test_*.py") if "mark.gpu" in file.read_text("utf-8")]
    options = ["-m", "gpu", "-n", "0", "-p", "no:cacheprovider", f"--junit-xml={results}"]
    results.unlink(missing_ok=True)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *files],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    print(done.stdout, done.stderr)
    if not results.is_file():
        raise RuntimeError(f"pytest ended with status {done.returncode} and without results")
    cases = list(ElementTree.parse(results).iter("testcase"))
    bad = [case.get("name") for case in cases if case.find("failure") is not None or case.find("error") is not None]
    if bad or done.returncode:
        raise RuntimeError(f"{len(bad)} of {len(cases)} tests failed: {', '.join(map(str, bad[:3]))}")
    skipped = [node for case in cases if (node := case.find("skipped")) is not None]
    expected = sum(node.get("type") == "pytest.xfail" for node in skipped)
    values = {
        "passed": len(cases) - len(skipped),
        "failed as expected": expected,
        "skipped": len(skipped) - expected,
    }
    return {"setting": "pytest -m gpu", "values": values}
