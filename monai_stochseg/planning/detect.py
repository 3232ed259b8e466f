# SPDX-License-Identifier: Apache-2.0
"""Which layout a folder has: the known ones, as patterns, in the order in which they are tried."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from monai_stochseg.data import CaseError
from monai_stochseg.data.files import find_files
from monai_stochseg.data.patterns import match_pattern, pattern_fields
from monai_stochseg.data.raster import RASTER_ENDINGS
from monai_stochseg.data.rater_folder import RaterLayout

_VOLUMES = (".nii*", ".mha", ".nrrd")
_NNUNET = ("imagesTr/{case}_{modality}", "labelsTr_{rater}/{case}", "labelsTr/{case}")

# Patterns of image and label without their endings; those with more names in braces come first.
KNOWN_LAYOUTS = (
    (_NNUNET[0], _NNUNET[1]),
    (_NNUNET[0], _NNUNET[2]),
    ("{case}/image", "{case}/annotation_{rater}"),  # CURVAS
    ("{case}/image", "{case}/task{structure}_seg{rater}"),  # QUBIQ
    ("{case}/image", "{case}/label_{rater}"),
    ("{case}/image", "{case}/label"),
    ("{case}/{case}-{modality}", "{case}/{case}-seg"),  # BraTS 2023 to 2025
    ("{case}/{case}_{modality}", "{case}/{case}_seg"),  # BraTS 2017 to 2021
    ("{case}/{modality}", "{case}/seg"),  # the BraTS toolkit
    ("{case}prime", "{case}-{rater}"),  # RIGA
    ("images/{case}", "readers/{rater}/{case}"),
    ("images/{case}", "masks/{rater}/{case}"),
    ("images/{case}", "labels/{rater}/{case}"),
    ("images/{case}", "masks/{case}_{rater}"),
    ("images/{case}", "labels/{case}_{rater}"),
    ("images/{case}", "masks/{case}"),
    ("images/{case}", "labels/{case}"),
    ("{case}/image_{modality}", "{case}/annotation_{rater}"),
)
_BRATS = MappingProxyType({0: "background", 1: "NET", 2: "OD", 3: "ET", 4: "RC"})
_BRATS_2017 = MappingProxyType({0: "background", 1: "NET", 2: "OD", 4: "ET"})
# Values of the masks that a layout of images says.
_LAYOUT_CLASSES = MappingProxyType(
    {
        "{case}/{case}-{modality}": _BRATS,
        "{case}/{modality}": _BRATS,
        "{case}/{case}_{modality}": _BRATS_2017,
    }
)


class Detected(NamedTuple):
    """
    A layout, and what the folder says of its names.

    Args:
        layout: of the files; without a ``label_map``, which the masks' values decide.
        class_names: value in the masks to its name, where ``dataset.json`` or the layout says so.
    """

    layout: RaterLayout
    class_names: Mapping[int, str]


def detect_layout(dataset_dir: str | os.PathLike, image: str | None = None, label: str | None = None) -> Detected:
    """
    Find out how a folder names its files.

    Args:
        dataset_dir: the folder.
        image: the pattern of the images. Default: the known layouts are tried.
        label: the pattern of the masks; it goes with ``image``.

    Raises:
        CaseError: if there is no folder, or no layout fits.
    """
    root = Path(dataset_dir).expanduser().absolute()
    if not root.is_dir():
        raise CaseError(f"dataset_dir: {root} is no folder.")
    described = _described(root)
    if (image is None) != (label is None):
        raise CaseError("image and label go together: give both patterns, or none.")
    files = [file[len(root.as_posix()) + 1 :] for file in find_files(root)]
    if not files:
        raise CaseError(f"dataset_dir: {root} is empty.")
    names = _class_names(described)
    if image is not None and label is not None:
        return Detected(_layout(image, label, files, described), names)
    if any("label" in entry for entry in described.get("training", []) if isinstance(entry, dict)):
        return Detected(RaterLayout(datalist="dataset.json"), names)
    endings = (*_VOLUMES, *RASTER_ENDINGS)
    for one, other in KNOWN_LAYOUTS:
        for ending in endings:
            if not match_pattern(one + ending, files):
                continue
            for mask_ending in (ending, *(e for e in endings if e != ending)):
                if match_pattern(other + mask_ending, files):
                    layout = _layout(one + ending, other + mask_ending, files, described)
                    return Detected(layout, names or _LAYOUT_CLASSES.get(one, {}))
    patterns = "; ".join(f"{one}.*, {other}.*" for one, other in KNOWN_LAYOUTS[:4])
    raise CaseError(
        f"dataset_dir: {root} has none of the known layouts ({patterns} and others): say how its files are named, "
        'for instance --image "images/{case}.png" --label "readers/{rater}/{case}.png".'
    )


def _layout(image: str, label: str, files: Sequence[str], described: Mapping[str, Any]) -> RaterLayout:
    """The layout of two patterns, with the modalities, structures and raters that the folder has."""
    images = match_pattern(image, files)
    labels = match_pattern(label, files)
    for pattern, found in {image: images, label: labels}.items():
        if not found:
            raise CaseError(f"no file fits the pattern {pattern!r}.")
    modalities: dict[str, str] = {}
    if "modality" in pattern_fields(image):
        masks = {one.path for one in labels}
        tokens = sorted({one.fields["modality"] for one in images if one.path not in masks})
        channels = described.get("channel_names", described.get("modality", {}))
        given = {f"{int(index):04d}": str(name) for index, name in channels.items()} if channels else {}
        modalities = {given.get(token, token): token for token in tokens}
    structures: list[str] = []
    if "structure" in pattern_fields(label):
        structures = sorted({one.fields["structure"] for one in labels})
    raters = {one.fields["rater"] for one in labels} if "rater" in pattern_fields(label) else set()
    known = bool(raters) and not all(name.isdecimal() for name in raters)
    return RaterLayout(image, label, modalities, structures, known_raters=known)


def _described(root: Path) -> dict[str, Any]:
    """The ``dataset.json`` of the Decathlon or of nnU-Net, empty where there is none."""
    file = root / "dataset.json"
    if not file.is_file():
        return {}
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CaseError(f"{file} is no JSON: {error}.") from None
    if not isinstance(content, dict):
        raise CaseError(f"{file} must be an object of JSON.")
    return content


def _class_names(described: Mapping[str, Any]) -> dict[int, str]:
    """Value in the mask to name: the Decathlon has them by value, nnU-Net by name."""
    names: dict[int, str] = {}
    for key, value in described.get("labels", {}).items():
        if str(key).isdecimal():
            names[int(key)] = str(value)
        elif isinstance(value, int):
            names[value] = str(key)
    return names
