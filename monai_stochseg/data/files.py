# SPDX-License-Identifier: Apache-2.0
"""The files of a patient: found by the templates of a layout, and compared by their headers."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
from nibabel.filebasedimages import ImageFileError

from .case import CaseError, check_geometry
from .layouts import Layout


def find_files(root: Path) -> list[str]:
    """List all files below a folder that are not hidden (the Decathlon's archives carry macOS's ``._`` files)."""
    found = []
    for folder, folders, names in os.walk(root, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(folder, name).as_posix() for name in names if not name.startswith(".")]
    return sorted(found)


def match_files(template: str | None, files: Sequence[str]) -> dict[str, list[str]]:
    """
    Group the files that fit a template by patient.

    Args:
        template: of the end of a path, see :py:class:`monai_stochseg.data.Layout`. None fits no file.
        files: paths, as :py:func:`find_files` returns them.
    """
    if template is None:
        return {}
    wild = {"{patient}": "(?P<patient>[^/]+)", "{rater}": "[^/]+", "*": "[^/]*", "?": "[^/]"}
    parts = re.split(r"(\{patient\}|\{rater\}|\*|\?)", template)
    pattern = re.compile("/" + "".join(wild.get(part, re.escape(part)) for part in parts) + "$")
    found: dict[str, list[str]] = {}
    for file in files:
        if match := pattern.search(file):
            found.setdefault(match["patient"], []).append(file)
    return found


def only_file(patient: str, files: Sequence[str]) -> str:
    """
    Check that a patient has one file of a kind, and return it.

    Raises:
        CaseError: when there are several.
    """
    if len(files) > 1:
        raise CaseError(f"patient {patient}: found twice, {files[0]} and {files[1]}.")
    return files[0]


def check_headers(case: Mapping[str, Any], layout: Layout) -> None:
    """
    Compare the headers of one patient's NIfTI files; other formats are compared when their voxels are read.

    Args:
        case: of a datalist.
        layout: says whether one file of the image has all the channels.

    Raises:
        CaseError: when a file cannot be read, does not have the channels of the layout, or is not on the grid of the
            others.
    """
    mask = [case["mask"]] if "mask" in case else []
    files = [file for file in case["image"] + case.get("label", []) + mask if file.endswith((".nii", ".nii.gz"))]
    geometries = {}
    for file in files:
        try:
            image = nib.load(file)
        except (ImageFileError, OSError, EOFError) as error:
            raise CaseError(f"patient {case['patient']}: {file} cannot be read ({error}).") from None
        if layout.channel_order and file in case["image"] and image.shape[3:] != (len(layout.channel_order),):
            raise CaseError(
                f"patient {case['patient']}: {file} has shape {image.shape}, but should be 4D with the channels "
                f"{list(layout.channel_order)}."
            )
        geometries[file] = (image.shape[:3], image.affine)
    if geometries:
        check_geometry(case["patient"], geometries)
