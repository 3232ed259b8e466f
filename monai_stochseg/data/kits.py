# SPDX-License-Identifier: Apache-2.0
"""Find the patients of a folder of the Kidney Tumour Segmentation challenge (KiTS 2019, 2021 and 2023)."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from .brats import brats_datalist
from .case import CaseError
from .files import find_files, match_files
from .layouts import Layout

KITS_CLASSES = MappingProxyType({"background": 0, "kidney": 1, "tumour": 2, "cyst": 3})
KITS_AGGREGATIONS = ("MAJ", "AND", "OR")
CT = MappingProxyType({"ct": "{case}/imaging.nii*"})

KITS_LAYOUTS = (
    # 2019 and 2023; in 2019 there are no cysts.
    Layout("kits", dict(CT), "{case}/segmentation.nii*", {0: 0, 1: 1, 2: 2, 3: 3}),
    Layout("kits2021", dict(CT), "{case}/aggregated_MAJ_seg.nii*", {0: 0, 1: 1, 2: 2, 3: 3}),
    # Kidneys and their cysts among the 117 classes of TotalSegmentator 2, which has no class for tumour.
    Layout(
        "totalsegmentator",
        dict(CT),
        "{case}/segmentation_totalsegmentator.nii*",
        dict.fromkeys(range(118), 0) | {2: 1, 3: 1, 23: 3, 24: 3},
    ),
)


def kits_datalist(
    dataset_dir: str | os.PathLike, require_label: bool = True, keep_cyst: bool = False, aggregation: str = "MAJ"
) -> list[dict[str, Any]]:
    """
    List the patients of a KiTS folder, as :py:func:`monai_stochseg.data.brats_datalist` lists those of BraTS.

    A patient's folder (``case_00000``, of any name and however deep) holds ``imaging.nii.gz`` and its label:
    ``segmentation.nii.gz`` (2019 and 2023), ``aggregated_MAJ_seg.nii.gz`` and its like (2021), or, for a CT
    from elsewhere, ``segmentation_totalsegmentator.nii.gz``. The whole folder has one kind of label, the first of
    these that is found. The files of single instances and annotators of 2021 and 2023 are not read: the same annotator
    number means different persons in different instances, so there is no reading of a whole patient.

    The first axis of the organisers' files runs along the body, and says so in the affine; spacing and orientation
    come from there.

    Args:
        dataset_dir: the folder, as it was delivered; patients below a folder ``train``, ``validation`` or ``test`` are
            of that part.
        require_label: whether a patient without label is an error; for inference it need not have one.
        keep_cyst: whether cysts are class 3. False: they are kidney, as in the two classes of 2019.
        aggregation: of the three annotators of 2021: ``"MAJ"``, ``"AND"`` or ``"OR"``.

    Returns:
        One dictionary per patient, as :py:class:`monai_stochseg.transforms.LoadCased` reads it; the label has the
        classes 0 background, 1 kidney, 2 tumour and, with ``keep_cyst``, 3 cyst.

    Raises:
        ValueError: when ``aggregation`` is unknown.
        CaseError: when no patient is found, a label is missing, a file is found twice or cannot be read, or image and
            label of one patient differ in shape or affine.
    """
    if aggregation not in KITS_AGGREGATIONS:
        raise ValueError(f"aggregation must be one of {KITS_AGGREGATIONS}, got {aggregation!r}.")
    root = Path(dataset_dir).expanduser().absolute()
    files = find_files(root)
    layouts = [replace(one, label=one.label.replace("MAJ", aggregation)) for one in KITS_LAYOUTS]
    layout = next((one for one in layouts if match_files(one.label, files)), None)
    if not match_files(CT["ct"], files):
        labelled = "" if layout is None else f", but {layout.label} exists; the challenge delivers the CT separately"
        raise CaseError(f"dataset_dir: no patient found under {root}, no file {CT['ct']}{labelled}.")
    if layout is None and require_label:
        labels = ", ".join(one.label for one in layouts)
        raise CaseError(
            f"dataset_dir: no label found under {root}, no file {labels}; "
            "add them, or pass require_label=False for inference."
        )
    layout = layout or layouts[0]
    cyst = KITS_CLASSES["cyst"] if keep_cyst else KITS_CLASSES["kidney"]
    label_map = {value: cyst if to == KITS_CLASSES["cyst"] else to for value, to in layout.label_map.items()}
    cases = brats_datalist(root, tuple(CT), replace(layout, label_map=label_map), require_label)
    return [case | {"mask": None} for case in cases]  # there is no brain, and nothing outside it
