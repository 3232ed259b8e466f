# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import ast
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

TUTORIALS = Path(__file__).parents[1] / "tutorials"


def check_ssn_toy(measured: dict[str, float]) -> None:
    noise = 0.01  # of the estimate from 100 000 samples
    assert -0.80 <= measured["low rank"] <= math.log(0.5) + noise
    assert -4.90 <= measured["diagonal"] <= 7 * math.log(0.5) + noise


# Which variable of a notebook is checked, and how.
CHECKS: dict[str, tuple[str, Callable[[Any], None]]] = {"ssn_toy.ipynb": ("measured", check_ssn_toy)}


@pytest.mark.parametrize("name", sorted(path.name for path in TUTORIALS.glob("*.ipynb")))
def test_tutorial_runs(name: str, tmp_path: Path) -> None:
    variable, check = CHECKS[name]
    notebook = nbformat.read(TUTORIALS / name, as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell(f"import sys\n(sys.executable, {variable})"))
    client = NotebookClient(
        notebook, kernel_name="python3", timeout=600, resources={"metadata": {"path": str(tmp_path)}}
    )
    # Without folders of kernels, python3 is the interpreter that runs this test and none that the user has installed.
    client.create_kernel_manager().kernel_spec_manager.kernel_dirs = []
    client.execute()

    executable, value = ast.literal_eval(notebook.cells[-1].outputs[-1]["data"]["text/plain"])
    assert executable == sys.executable
    check(value)
    assert not list(tmp_path.iterdir())
