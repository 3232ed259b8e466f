# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import csv

import pytest

from monai_stochseg.data import csv_text, write_csv


@pytest.mark.parametrize("name", ["=HYPERLINK(A1)", "+1+1", "-1+cmd|' /C calc'!A0", "@SUM(A1)", "\t=1", "\r=1", "\n=1"])
def test_what_a_spreadsheet_would_run_begins_with_an_apostrophe(name):
    assert csv_text(name) == f"'{name}"


@pytest.mark.parametrize("text", ["patient_1", "-0.5", "+3", "-inf", "", "a=b", "12"])
def test_other_texts_and_numbers_stay(text):
    assert csv_text(text) == text


def test_a_table_is_read_again(tmp_path):
    rows = [["case", "dice, mean"], ["=1", -0.5], ["a\nb", "-0.5"]]
    write_csv(tmp_path / "new" / "table.csv", rows)
    with (tmp_path / "new" / "table.csv").open(newline="", encoding="utf-8") as file:
        assert list(csv.reader(file)) == [["case", "dice, mean"], ["'=1", "-0.5"], ["a\nb", "-0.5"]]
