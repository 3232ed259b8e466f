# SPDX-License-Identifier: Apache-2.0
"""Tables as CSV, which a spreadsheet can open without running what a name says."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Sequence
from typing import Any

from .new_file import new_file

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def csv_text(text: str) -> str:
    """
    A text as a cell: with an apostrophe before what a spreadsheet would take for a formula (OWASP, CSV Injection). A
    number, such as -0.5, stays.

    Args:
        text: such as the name of a patient, which comes from a file's name.

    Example::

        >>> csv_text("=HYPERLINK(A1)"), csv_text("patient_1")
        ("'=HYPERLINK(A1)", 'patient_1')
    """
    return f"'{text}" if text.startswith(_FORMULA) and not _is_number(text) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def write_csv(path: str | os.PathLike[str], rows: Iterable[Sequence[Any]]) -> None:
    """
    Write a table, whole or not at all.

    Args:
        path: the file.
        rows: numbers are written as they are, texts by :py:func:`csv_text`.

    Raises:
        OSError: when the file cannot be written; names it.
    """
    with new_file(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerows([csv_text(cell) if isinstance(cell, str) else cell for cell in row] for row in rows)
