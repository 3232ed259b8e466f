# SPDX-License-Identifier: Apache-2.0
"""The files of a patient: found by the patterns of a layout, and compared by their headers."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .case import CaseError, check_geometry
from .nifti import NIFTI_SUFFIXES, check_channels, read_header
from .patterns import group_by_case


def find_files(root: str | os.PathLike) -> list[str]:
    """
    List all files below a folder that are not hidden (the Decathlon's archives carry macOS's ``._`` files). Links are
    followed, except back to a folder on the way to them.

    Raises:
        CaseError: when a folder cannot be listed.
    """
    return sorted(Path(folder, name).as_posix() for folder, names in walk_folders(root) for name in names)


def walk_folders(root: str | os.PathLike[str], trail: tuple[str, ...] = ()) -> Iterator[tuple[str, list[str]]]:
    """
    Visit a folder and those below it, with the names of their files; hidden ones are left out.

    Args:
        root: the folder; where there is none, nothing is visited.
        trail: real paths of the folders above it, which a link must not lead back to.

    Raises:
        CaseError: when a folder cannot be listed: its patients would be missing without a word.
    """
    real = os.path.realpath(root)
    if real in trail or not os.path.isdir(real):
        return
    try:
        entries = sorted(
            (entry for entry in os.scandir(os.fspath(root)) if entry.name[0] != "."), key=lambda entry: entry.name
        )
    except OSError as error:
        raise CaseError(f"{os.fspath(root)} cannot be listed ({error.strerror}); give the right to read it.") from None
    yield os.fspath(root), [entry.name for entry in entries if not entry.is_dir()]
    for entry in entries:
        if entry.is_dir():
            yield from walk_folders(entry.path, (*trail, real))


def match_files(pattern: str | None, files: Sequence[str]) -> dict[str, list[str]]:
    """
    Group the files that fit a pattern by patient.

    Args:
        pattern: of the end of a path, see :py:func:`monai_stochseg.data.patterns.match_pattern`. None fits no file.
        files: paths, as :py:func:`find_files` returns them.
    """
    groups = {} if pattern is None else group_by_case(pattern, files)
    return {patient: [file.path for file in found] for patient, found in groups.items()}


def only_file(patient: str, files: Sequence[str]) -> str:
    """
    Check that a patient has one file of a kind, and return it.

    Raises:
        CaseError: when there are several.
    """
    if len(files) > 1:
        raise CaseError(f"patient {patient}: found twice, {files[0]} and {files[1]}.")
    return files[0]


def check_headers(case: Mapping[str, Any]) -> None:
    """
    Check the headers of one patient's NIfTI files; other formats are checked when their voxels are read.

    Args:
        case: of a datalist, see :py:class:`monai_stochseg.transforms.LoadCased`.

    Raises:
        CaseError: when a file cannot be read, has other channels than the case says, or is not on the grid of the
            others.
    """
    geometries = {}
    for file, channels in case_files(case):
        if file.endswith(NIFTI_SUFFIXES):
            image = read_header(case["patient"], file)
            check_channels(case["patient"], file, image.shape, image.shape[3:], channels)
            geometries[file] = (image.shape[:3], image.affine)
    if geometries:
        check_geometry(case["patient"], geometries)


def case_files(case: Mapping[str, Any]) -> list[tuple[str, int]]:
    """Files of a case, and how many channels each should have: image, raters, mask."""
    return [
        *((file, case.get("image_channels", 1)) for file in case["image"]),
        *((file, case.get("label_channels", 1)) for file in case.get("label", [])),
        *((file, 1) for file in [case.get("mask")] if file is not None),
    ]
