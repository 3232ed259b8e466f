# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest
from scipy.stats import wilcoxon

from monai_stochseg.__main__ import main

A = {"p1": 0.1, "p2": 0.4, "p3": 0.2, "p4": 0.9, "p5": 0.3, "p6": 0.5}
B = {"p1": 0.2, "p2": 0.6, "p3": 0.5, "p4": 1.3, "p5": 0.8, "p6": 1.1}


def write(path: Path, cases: dict, column: str = "ged", summary: bool = True) -> str:
    rows = [f"case,{column},same,ece", *(f"{name},{value},0.5,nan" for name, value in cases.items())]
    rows += ["mean,0.3,0.5,0.2", "standard_error,0.1,0,nan"] * summary
    path.write_text("\n".join(rows) + "\n")
    return str(path)


def test_prints_means_median_difference_and_p(tmp_path, capsys) -> None:
    """All six differences have one sign: two of the 2^6 signs are as far out, 2 / 64."""
    second = dict(reversed(B.items()))  # the order does not matter
    main(["compare", write(tmp_path / "a.csv", A), write(tmp_path / "b.csv", second, summary=False)])
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["cases", "first", "second", "median", "difference", "p"]
    assert lines[1] == ["ged", "6", "0.4000", "0.7500", "-0.3500", "0.0312"]
    assert lines[2] == ["same", "6", "0.5000", "0.5000", "0.0000", "1"]
    assert len(lines) == 3  # ece has no value of a case
    assert wilcoxon([A[name] - B[name] for name in A]).pvalue == pytest.approx(2 / 64)


def test_a_case_without_a_value_is_left_out(tmp_path, capsys) -> None:
    main(["compare", write(tmp_path / "a.csv", {**A, "p6": "nan"}), write(tmp_path / "b.csv", B)])
    ged = capsys.readouterr().out.splitlines()[1].split()
    assert (ged[1], ged[-1]) == ("5", "0.0625")


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ({"p1": 0.1}, B, "b.csv has 5 cases that .*a.csv has not, such as p2"),
        ({**A, "p7": 1}, B, "a.csv has 1 cases that .*b.csv has not, such as p7"),
        ({}, B, "a.csv has no case"),
        ({"p1": "high"}, {"p1": 1}, "a.csv, p1, ged: 'high' is no number"),
    ],
)
def test_refuses_other_cases(tmp_path, first, second, message) -> None:
    with pytest.raises(SystemExit, match=f"CaseError: compare: .*{message}"):
        main(["compare", write(tmp_path / "a.csv", first), write(tmp_path / "b.csv", second)])


def test_refuses_other_tables(tmp_path) -> None:
    (tmp_path / "b.csv").write_text("name,ged\np1,2\n")
    with pytest.raises(SystemExit, match=r"b\.csv is no table of an evaluation"):
        main(["compare", write(tmp_path / "a.csv", A), str(tmp_path / "b.csv")])
    (tmp_path / "b.csv").write_text("case,ged\n" + "p1,2\n" * 2)
    with pytest.raises(SystemExit, match=r"b\.csv has the case p1 twice"):
        main(["compare", write(tmp_path / "a.csv", A), str(tmp_path / "b.csv")])
    (tmp_path / "b.csv").write_text("case,other\n" + "".join(f"{name},1\n" for name in A))
    with pytest.raises(SystemExit, match="share no column with values of cases"):
        main(["compare", str(tmp_path / "b.csv"), write(tmp_path / "a.csv", A)])
    with pytest.raises(SystemExit, match="FileNotFoundError"):
        main(["compare", str(tmp_path / "c.csv"), str(tmp_path / "b.csv")])
