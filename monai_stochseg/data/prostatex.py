# SPDX-License-Identifier: Apache-2.0
"""Find the patients of a ProstateX folder with masks of the prostate's zones."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from .case import CaseError
from .files import check_headers, find_files, match_files, only_file
from .layouts import Layout
from .splits import SPLITS

PROSTATE_ZONES = MappingProxyType({"PZ": 1, "TZ": 2, "DPU": 3, "AFS": 4})
T2 = ("{case}/t2.nii*", "{case}_t2*.nii*", "images*/{case}.nii*")
ZONE_MAPS = ("{case}/zones.nii*", "{case}_zones.nii*", "labels*/{case}.nii*")
ZONE_MASKS = ("{case}/{zone}.nii*", "{case}_{zone}.nii*")
LAYOUT = Layout("prostatex", {"t2": T2[0]}, ZONE_MAPS[0], {value: value for value in range(5)})


def prostatex_datalist(
    dataset_dir: str | os.PathLike, require_label: bool = True, zones: Sequence[str] = tuple(PROSTATE_ZONES)
) -> list[dict[str, Any]]:
    """
    List the patients of a ProstateX folder, as :py:func:`monai_stochseg.data.brats_datalist` lists those of BraTS.

    The zones are those of Meyer et al. (TCIA, PROSTATEx-Seg-Zones, 98 patients): peripheral zone (PZ), transition zone
    (TZ), distal prostatic urethra (DPU) and anterior fibromuscular stroma (AFS). TCIA delivers DICOM; as NIfTI the
    axial T2 image may be named

    * ``<patient>/t2.nii.gz``, ``<patient>_t2<anything>.nii.gz`` or ``images<anything>/<patient>.nii.gz``,

    and its label, on the image's voxel grid, be one map with the classes 1 PZ, 2 TZ, 3 DPU, 4 AFS,

    * ``<patient>/zones.nii.gz``, ``<patient>_zones.nii.gz`` or ``labels<anything>/<patient>.nii.gz``,

    or one mask per zone, as the masks of PZ and TZ by Cuocolo et al. are, which go with ``zones=("PZ", "TZ")``:

    * ``<patient>/pz.nii.gz`` or ``<patient>_pz.nii.gz``, and so on, or with the zone in capitals.

    For each kind of file, the first of these names that is found is used for the whole folder, and a map comes before
    masks.

    Args:
        dataset_dir: the folder; it is searched with all its subfolders, and patients below a folder ``train``,
            ``validation`` or ``test`` are of that part.
        require_label: whether a patient without label is an error; for inference it need not have one.
        zones: the zones to keep; they get the classes 1, 2, ... in this order, the others become background.

    Returns:
        One dictionary per patient, as :py:class:`monai_stochseg.transforms.LoadCased` reads it. Where there is a mask a
        zone, ``label`` has these and ``label_classes`` their classes, for
        :py:class:`monai_stochseg.transforms.MergeLabelPartsd` to make them one map.

    Raises:
        ValueError: when ``zones`` are unknown or named twice.
        CaseError: when no patient is found, a label or a zone's mask is missing, a file is found twice or cannot be
            read, or the files of one patient differ in shape or affine.
    """
    if not zones or len(set(zones)) != len(zones) or not set(zones) <= set(PROSTATE_ZONES):
        raise ValueError(f"zones must be some of {list(PROSTATE_ZONES)}, each once, got {list(zones)}.")
    root = Path(dataset_dir).expanduser().absolute()
    files = find_files(root)
    images, maps = _first(T2, files), _first(ZONE_MAPS, files)
    masks = {
        zone: _first([name.replace("{zone}", spelt) for spelt in (zone.lower(), zone) for name in ZONE_MASKS], files)
        for zone in zones
    }
    if not images:
        raise CaseError(f"dataset_dir: no T2 image found under {root}, which should hold one of {', '.join(T2)}.")

    cases = []
    for patient in sorted(images):
        image = only_file(patient, images[patient])
        case: dict[str, Any] = {"patient": patient, "subject": patient, "layout": LAYOUT.name, "mask": None}
        case |= {"image": [image], "channels": [0], **_label(patient, maps, masks)}
        if require_label and "label" not in case:
            raise CaseError(
                f"patient {patient}: the label is missing, no file {', '.join((*ZONE_MAPS, *ZONE_MASKS))} "
                f"under {root}; add it, or pass require_label=False for inference."
            )
        if folders := [part for part in Path(image).relative_to(root).parts if part in SPLITS]:
            case["split"] = folders[0]
        check_headers(case)
        cases.append(case)
    return cases


def _first(patterns: Sequence[str], files: Sequence[str]) -> dict[str, list[str]]:
    """Per patient the files of the first pattern that any file fits."""
    return next((found for pattern in patterns if (found := match_files(pattern, files))), {})


def _label(patient: str, maps: Mapping[str, list[str]], masks: Mapping[str, Mapping[str, list[str]]]) -> dict[str, Any]:
    """The entries of a case that say what its label is, none where there is no label."""
    if patient in maps:
        classes = {PROSTATE_ZONES[zone]: new for new, zone in enumerate(masks, 1)}
        label_map = {value: classes.get(value, 0) for value in LAYOUT.label_map}
        return {"label": [only_file(patient, maps[patient])], "label_map": label_map}
    missing = [zone for zone, found in masks.items() if patient not in found]
    if len(missing) == len(masks):
        return {}
    if missing:
        raise CaseError(
            f"patient {patient}: the mask of {missing[0]} is missing, but others are there; "
            f"add it, or leave {missing[0]} out of `zones`."
        )
    return {
        "label": [only_file(patient, found[patient]) for found in masks.values()],
        "label_map": {0: 0, 1: 1, 255: 1},
        "label_classes": list(range(1, len(masks) + 1)),
    }
