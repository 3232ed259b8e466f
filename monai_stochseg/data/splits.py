# SPDX-License-Identifier: Apache-2.0
"""Split a list of cases by patient, and keep the split with the run."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .case import CaseError
from .new_file import new_file

SPLITS = ("train", "validation", "test")
_TABLES = ("train", "valid", "test")


def split_cases(
    datalist: Sequence[Mapping[str, Any]], fractions: Sequence[float] = (0.6, 0.1, 0.3), seed: int = 0
) -> dict[str, list]:
    """
    Split cases into train, validation and test, so that no person lies in two of them.

    If every case has a ``split``, that split is kept, and ``fractions`` and ``seed`` do not matter. Otherwise persons
    are drawn (``subject``, or ``patient`` where there is no subject): each part gets its fraction, rounded down, and
    train gets the rest. A part that would be empty although its fraction is not zero gets one person from the largest
    part.

    Args:
        datalist: the cases, with ``patient``, and perhaps ``subject`` and ``split``.
        fractions: fractions of train, validation and test, which sum to 1.
        seed: seed of the draw; the order of ``datalist`` does not matter.

    Returns:
        The cases of ``"train"``, ``"validation"`` and ``"test"``, in the order of ``datalist``.

    Raises:
        ValueError: when ``fractions`` are not three non-negative numbers that sum to 1.
        CaseError: when ``datalist`` is empty, or only some of the cases have a ``split``.
    """
    if len(fractions) != len(SPLITS) or min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-6:
        raise ValueError(f"fractions must be three non-negative numbers that sum to 1, got {fractions}.")
    if not datalist:
        raise CaseError("datalist is empty: there is no patient to split.")
    undecided = [case["patient"] for case in datalist if "split" not in case]
    if not undecided:
        return {name: [case for case in datalist if case["split"] == name] for name in SPLITS}
    if len(undecided) < len(datalist):
        raise CaseError(
            f"patient {undecided[0]} lies in none of the folders {SPLITS}, though others do; "
            "put every patient into one of them, or none."
        )

    subjects = sorted({_subject(case) for case in datalist})
    counts = _counts(len(subjects), fractions)
    parts = np.split(np.random.default_rng(seed).permutation(subjects), np.cumsum(counts)[:-1])
    chosen = {subject: name for name, part in zip(SPLITS, parts, strict=True) for subject in part.tolist()}
    return {name: [case for case in datalist if chosen[_subject(case)] == name] for name in SPLITS}


def share_of_cases(datalist: Sequence[Mapping[str, Any]], share: float, seed: int = 0) -> list[Mapping[str, Any]]:
    """
    Keep the cases of a share of the persons, for a training on fewer data. A smaller share lies within a larger one.

    Args:
        datalist: the cases, with ``patient``, and perhaps ``subject``.
        share: above 0 and at most 1; the number of persons is rounded, and at least one stays.
        seed: seed of the draw; the order of ``datalist`` does not matter.

    Returns:
        The cases in the order of ``datalist``.

    Raises:
        ValueError: when ``share`` is not above 0 and at most 1.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share must be above 0 and at most 1, got {share}.")
    subjects = sorted({_subject(case) for case in datalist})
    order = np.random.default_rng(seed).permutation(subjects).tolist()
    kept = set(order[: max(1, round(share * len(order)))])
    return [case for case in datalist if _subject(case) in kept]


def write_split(split: Mapping[str, Sequence[Mapping[str, Any]]], path: str | os.PathLike) -> None:
    """
    Write the names of the patients in each part of a split to a JSON file.

    Args:
        split: the cases of each part, as :py:func:`split_cases` returns them.
        path: the file; its folder is made where it is absent. It appears whole or not at all.
    """
    names = {part: [case["patient"] for case in cases] for part, cases in split.items()}
    with new_file(path) as temporary:
        temporary.write_text(json.dumps(names, indent=2) + "\n", encoding="utf-8")


def read_split(path: str | os.PathLike, datalist: Sequence[Mapping[str, Any]]) -> dict[str, list]:
    """
    Choose from a list of cases the split that a file, or a folder of tables, records.

    Args:
        path: a file of :py:func:`write_split`, or a folder of ``data_index_train.csv``, ``data_index_valid.csv`` and
            ``data_index_test.csv``, as the authors of Monteiro et al. 2020 publish their lists of BraTS 2017
            (https://github.com/biomedia-mira/stochastic_segmentation_networks, ``assets/BraTS2017_data``): of each
            row's ``id``, such as ``HGG/Brats17_TCIA_150_1/Brats17_TCIA_150_1``, what follows the last slash is the
            patient.
        datalist: the cases; those that the file does not name are left out.

    Returns:
        The cases of each part, in the order of the file.

    Raises:
        CaseError: when the file is not there, is no split of :py:func:`write_split` or no such table, holds a patient
            twice or none at all, or a patient of the file is not in ``datalist``.
    """
    source = Path(path).expanduser()
    names = _read_tables(source) if source.is_dir() else _read_names(source)
    cases = {case["patient"]: case for case in datalist}
    home: dict[str, str] = {}
    for part, patients in names.items():
        for patient in patients:
            if patient not in cases:
                raise CaseError(
                    f"patient {patient} of the split {path} is not in the data set; is it the right folder?"
                )
            if patients.count(patient) > 1:
                raise CaseError(f"patient {patient} stands twice in {part} of the split {path}; keep one.")
            if home.setdefault(patient, part) != part:
                raise CaseError(
                    f"patient {patient} lies in {home[patient]} and in {part} of the split {path}; keep one."
                )
    return {part: [cases[patient] for patient in patients] for part, patients in names.items()}


def _read_names(path: Path) -> dict[str, list[str]]:
    """The names of each part of a split's file."""
    cure = "give the split.json of a training, or split anew"
    if not path.is_file():
        raise CaseError(f"split: {path} is not there; it is written when a training starts.")
    try:
        names = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CaseError(f"split: {path} cannot be read ({error}); {cure}.") from None
    if not isinstance(names, dict) or set(names) != set(SPLITS):
        found = list(names) if isinstance(names, dict) else type(names).__name__
        raise CaseError(f"split: {path} must be an object with the parts {SPLITS}, got {found}; {cure}.")
    for part, patients in names.items():
        if not isinstance(patients, list) or not all(isinstance(patient, str) for patient in patients):
            raise CaseError(f"split: {part} in {path} must be a list of patients' names; {cure}.")
    if not any(names.values()):
        raise CaseError(f"split: {path} holds no patient; {cure}.")
    return names


def _read_tables(folder: Path) -> dict[str, list[str]]:
    """The names of each part in a folder of three tables."""
    names = {part: _read_ids(folder / f"data_index_{name}.csv") for part, name in zip(SPLITS, _TABLES, strict=True)}
    if not any(names.values()):
        raise CaseError(f"split: the tables in {folder} hold no patient.")
    return names


def _read_ids(path: Path) -> list[str]:
    if not path.is_file():
        raise CaseError(f"split: {path} is not there; a folder must hold a table of each of {_TABLES}.")
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, ValueError, csv.Error) as error:
        raise CaseError(f"split: {path} cannot be read ({error}).") from None
    ids = [row.get("id") for row in rows]
    if not all(ids):
        raise CaseError(f"split: {path} must have a column id, and a value in each row of it.")
    return [str(name).rsplit("/", 1)[-1] for name in ids]


def _subject(case: Mapping[str, Any]) -> str:
    return case.get("subject", case["patient"])


def _counts(total: int, fractions: Sequence[float]) -> list[int]:
    """Number of persons in each part."""
    counts = [int(fraction * total + 1e-9) for fraction in fractions]
    counts[0] += total - sum(counts)
    for part, fraction in enumerate(fractions):
        largest = counts.index(max(counts))
        if fraction > 0 and counts[part] == 0 and counts[largest] > 1:
            counts[part] += 1
            counts[largest] -= 1
    return counts
