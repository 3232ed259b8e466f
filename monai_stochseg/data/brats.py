# SPDX-License-Identifier: Apache-2.0
"""Find the patients of a BraTS folder, however it was delivered."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from .case import CaseError
from .files import check_headers, find_files, match_files, only_file
from .layouts import BRATS_LAYOUTS, BRATS_MODALITIES, Layout
from .nifti import read_header
from .splits import SPLITS


def brats_datalist(
    dataset_dir: str | os.PathLike,
    modalities: Sequence[str] = BRATS_MODALITIES,
    layout: str | Layout | None = None,
    require_label: bool = True,
) -> list[dict[str, Any]]:
    """
    List the patients under a folder, of any of the layouts in :py:data:`monai_stochseg.data.BRATS_LAYOUTS`.

    Nested folders (``HGG``, ``LGG``, ``train``, ``validation``) are searched; hidden files and folders are not. The
    headers of NIfTI files are compared; voxels are read later, by :py:class:`monai_stochseg.transforms.LoadCased`.

    Args:
        dataset_dir: the folder, as it was delivered.
        modalities: any of ``"flair"``, ``"t1"``, ``"t1c"``, ``"t2"``, in the order of the image's channels.
        layout: name of a layout, or one of your own; by default all known ones are looked for.
        require_label: whether a patient without label is an error; for inference it need not have one.

    Returns:
        One dictionary per patient, in the order of their names: ``patient`` (unique name of the scan), ``subject`` (the
        person, shared by the time points), ``layout``, ``image`` (paths), ``channels`` (the modalities, as indices into
        the channels of those files in a row), and where they exist ``label`` (paths, one per rater) with
        ``label_map`` (class in the file to canonical class), ``mask`` (path of the brain mask) and ``split``
        (``"train"``, ``"validation"`` or ``"test"``, if the patient lies in a folder of that name). Where a file has
        several channels by its layout, ``image_channels`` or ``label_channels`` says how many. Where the patients have
        different numbers of raters, ``num_raters`` is the largest, to which all are padded.

    Raises:
        CaseError: when a modality is unknown or asked for twice, no patient is found, a file is missing, found twice
            or cannot be read, has channels that the layout does not name, or the files of one patient differ in shape
            or affine. A brain mask may not be missing where the layout has one.

    Example::

        >>> brats_datalist("Task01_BrainTumour", modalities=("t1c", "flair"))[0]
        {'patient': 'BRATS_001', 'subject': 'BRATS_001', 'layout': 'decathlon',
         'image': ['Task01_BrainTumour/imagesTr/BRATS_001.nii.gz'], 'channels': [2, 0], 'image_channels': 4,
         'label': ['Task01_BrainTumour/labelsTr/BRATS_001.nii.gz'], 'label_map': {0: 0, 1: 2, 2: 1, 3: 3}}
    """
    root = Path(dataset_dir).expanduser().absolute()
    layouts = _look_up(layout)
    if not modalities or len(set(modalities)) != len(modalities):
        raise CaseError(f"modalities must name at least one modality, each once, got {list(modalities)}.")
    known = sorted({name for one in layouts for name in one.modalities})
    for modality in modalities:
        if modality not in known:
            raise CaseError(f"modalities: {modality!r} is unknown; choose among {known}.")

    files = find_files(root)
    cases = [case for one in layouts for case in _cases(one, root, files, modalities, require_label)]
    if not cases:
        names = ", ".join(one.name for one in layouts)
        raise CaseError(f"dataset_dir: no patient found under {root}, which should hold one of the layouts {names}.")
    cases.sort(key=lambda case: case["patient"])
    for one, other in pairwise(cases):
        if one["patient"] == other["patient"]:
            raise CaseError(f"patient {one['patient']}: found twice, {one['image'][0]} and {other['image'][0]}.")
    labelled = [case for case in cases if "label" in case]
    counts = [len(case["label"]) * case.get("label_channels", 1) for case in labelled]
    if len(set(counts)) > 1:
        for case in labelled:
            case["num_raters"] = max(counts)
    return cases


def _look_up(layout: str | Layout | None) -> tuple[Layout, ...]:
    if layout is None:
        return BRATS_LAYOUTS
    if isinstance(layout, Layout):
        return (layout,)
    found = tuple(one for one in BRATS_LAYOUTS if one.name == layout)
    if not found:
        raise CaseError(f"layout: {layout!r} is unknown; choose among {[one.name for one in BRATS_LAYOUTS]}.")
    return found


def _cases(
    layout: Layout, root: Path, files: Sequence[str], modalities: Sequence[str], require_label: bool
) -> Iterator[dict[str, Any]]:
    """Yield the patients of one layout."""
    if require_label and layout.unlabelled is not None:
        unlabelled = {file for found in match_files(layout.unlabelled, files).values() for file in found}
        files = [file for file in files if file not in unlabelled]
    images = {modality: match_files(pattern, files) for modality, pattern in layout.modalities.items()}
    labels, masks = match_files(layout.label, files), match_files(layout.mask, files)

    for patient in sorted(set().union(*images.values())):
        for modality in modalities:
            if patient not in images[modality]:
                raise CaseError(
                    f"patient {patient}: modality {modality!r} is missing, no file "
                    f"{layout.modalities[modality].format(case=patient)} under {root}; "
                    "leave it out of `modalities` or add the file."
                )
        paths = [only_file(patient, images[modality][patient]) for modality in modalities]
        case: dict[str, Any] = {
            "patient": patient,
            "subject": re.sub(f"(?:{layout.timepoint})$", "", patient) if layout.timepoint else patient,
            "layout": layout.name,
            "image": list(dict.fromkeys(paths)),
            "channels": [layout.channel_order.index(modality) for modality in modalities]
            if layout.channel_order
            else list(range(len(modalities))),
        }
        if layout.channel_order:
            case["image_channels"] = len(layout.channel_order)
        if patient in labels:
            several = "{rater}" in layout.label
            case["label"] = labels[patient] if several else [only_file(patient, labels[patient])]
            case["label_map"] = dict(layout.label_map)
            if layout.raters_in_file:
                case["label_channels"] = math.prod(read_header(patient, case["label"][0]).shape[3:])
        elif require_label:
            raise CaseError(
                f"patient {patient}: the label is missing, no file "
                f"{layout.label.format(case=patient, rater='*')} under {root}; "
                "add it, or pass require_label=False for inference."
            )
        if patient in masks:
            case["mask"] = only_file(patient, masks[patient])
        elif layout.mask is not None:
            raise CaseError(
                f"patient {patient}: the brain mask is missing, no file {layout.mask.format(case=patient)} under "
                f"{root}; add it. The background of the layout {layout.name} is not zero, so the images do not show "
                "where the brain is; the scans before they were normalised do."
            )
        if folders := [part for part in Path(paths[0]).relative_to(root).parts if part in SPLITS]:
            case["split"] = folders[0]
        check_headers(case)
        yield case
