# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

CSV = """method,GED 16,"GED 16, 95 %",HM-IoU 16,"empty share, rank correlation",setting
ssn,0.28123,0.2 to 0.3,0.5,nan,"a task, 3 seeds"
own,0.2,,0.6,0.1,"a task, 3 seeds"
readers,0.03,,0.9,,"a task, 3 seeds"
"""


@pytest.fixture
def script(repository) -> ModuleType:
    spec = importlib.util.spec_from_file_location("readme_table", repository / "benchmarks" / "readme_table.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_replaces_what_stands_between_the_marks(script, tmp_path) -> None:
    (tmp_path / "benchmark.csv").write_text(CSV)
    readme = Path(tmp_path, "README.md")
    readme.write_text(f"before\n\n{script.BEGIN}old\n{script.END}\n\nafter\n")
    for _ in range(2):  # a second run changes nothing
        script.write(readme, [tmp_path])
        before, text = readme.read_text().split(script.BEGIN)
        text, after = text.split(script.END)
        assert (before, after) == ("before\n\n", "\n\nafter\n")
        assert text.splitlines() == [
            "**a task, 3 seeds**: 2 methods.",
            "",
            "|  | GED 16 | GED 16, 95 % | HM-IoU 16 | empty share, rank correlation |",
            "| --- | --- | --- | --- | --- |",
            "| the floor: the readers, or the known truth, drawn | 0.030 |  | 0.900 |  |",
            "| own | 0.200 |  | 0.600 | 0.100 |",
            "| Stochastic Segmentation Network | 0.281 | 0.2 to 0.3 | 0.500 | n/a |",
        ]


def test_the_time_of_a_sample_stands_where_results_hold_it(script, tmp_path) -> None:
    (tmp_path / "benchmark.csv").write_text(
        "method,GED 16,ms / further sample,setting\nssn,0.28123,0.06183,a\nown,0.2,81.26,a\nreaders,0.03,,a\n"
    )
    assert script.table(tmp_path).splitlines()[2:] == [
        "|  | GED 16 | ms / further sample |",
        "| --- | --- | --- |",
        "| the floor: the readers, or the known truth, drawn | 0.030 |  |",
        "| own | 0.200 | 81.3 |",
        "| Stochastic Segmentation Network | 0.281 | 0.0618 |",
    ]


def test_marks_must_be_there(script, tmp_path) -> None:
    Path(tmp_path, "README.md").write_text("no marks")
    with pytest.raises(ValueError, match="must hold the lines <!-- benchmark --> and <!-- /benchmark --> once each"):
        script.write(tmp_path / "README.md", [])
