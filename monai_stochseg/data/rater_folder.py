# SPDX-License-Identifier: Apache-2.0
"""Find the cases of a user's own folder: images with the masks of any number of raters."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from monai.data import load_decathlon_datalist

from .case import CaseError
from .files import find_files
from .patterns import MatchedFile, group_by_case, pattern_fields
from .splits import SPLITS


@dataclass(frozen=True)
class RaterLayout:
    """
    How a folder names its files, as patterns, see :py:func:`monai_stochseg.data.patterns.match_pattern`.

    Args:
        image: pattern of the images, with ``{case}``; with ``{modality}`` where each channel has a file of its own. May
            have ``{subject}``: cases of one person stay in one part of the split.
        label: pattern of the masks, with ``{case}``; with ``{rater}`` where there are several raters, and with
            ``{structure}`` where each structure has a mask of its own. None: there are none.
        modalities: name of a channel to what stands in the place of ``{modality}``, in the order of the channels.
        structures: what stands in the place of ``{structure}``, in their order. Default: there is no such place.
        datalist: a Decathlon ``dataset.json`` in the folder, which lists the files of ``training``, its ``label``
            being one file or a list with one a rater. Then ``image`` and ``label`` are not used.
        known_raters: whether a name of a rater is the same person in all cases. False: raters are exchangeable, and
            have a number in their case only.
        label_map: value in a mask to class, where a mask holds all structures. Default: the values are the classes.
        combinations: for each class the structures, as indices, whose masks are set there; the background has none, and
            structures may overlap. Default: with ``structures`` each is a class of its own.

    Raises:
        CaseError: if a pattern lacks ``{case}`` or names something that it may not, or classes are given that do not
            belong to the structures.

    Example::

        >>> RaterLayout("images/{case}.png", "readers/{rater}/{case}.png", label_map={0: 0, 255: 1}).known_raters
        False
    """

    image: str = "{case}/image.nii*"
    label: str | None = "{case}/annotation_{rater}.nii*"
    modalities: Mapping[str, str] = field(default_factory=dict)
    structures: Sequence[str] = ()
    datalist: str | None = None
    known_raters: bool = False
    label_map: Mapping[int, int] | None = None
    combinations: Sequence[Sequence[int]] | None = None

    def __post_init__(self) -> None:
        allowed = {"image": {"case", "modality", "subject"}, "label": {"case", "rater", "structure", "subject"}}
        for name, pattern in {"image": self.image, "label": self.label}.items():
            if pattern is None:
                continue
            fields = set(pattern_fields(pattern))
            if "case" not in fields:
                raise CaseError(f"layout: {name} {pattern!r} must name {{case}}.")
            if extra := sorted(fields - allowed[name]):
                raise CaseError(f"layout: {name} {pattern!r} must not name {{{extra[0]}}}.")
        if ("modality" in pattern_fields(self.image)) != bool(self.modalities):
            raise CaseError(f"layout: modalities belong to an image with {{modality}}, got {self.image!r}.")
        if self.label is not None and ("structure" in pattern_fields(self.label)) != bool(self.structures):
            raise CaseError(f"layout: structures belong to a label with {{structure}}, got {self.label!r}.")
        for combination in self.combinations or ():
            if not set(combination) <= set(range(len(self.structures))):
                raise CaseError(f"layout: combinations must be of the {len(self.structures)} structures' indices.")
        if self.structures and self.label_map is not None:
            raise CaseError("layout: a label_map is for masks of all structures; with structures give combinations.")

    @property
    def class_structures(self) -> list[frozenset[int]]:
        """For each class the structures, as indices, whose masks are set there; empty without ``structures``."""
        if self.combinations is not None:
            return [frozenset(combination) for combination in self.combinations]
        return [frozenset(), *(frozenset([index]) for index in range(len(self.structures)))] if self.structures else []


def rater_datalist(
    dataset_dir: str | os.PathLike, layout: RaterLayout, require_label: bool = True
) -> list[dict[str, Any]]:
    """
    List the cases of a folder, with any number of raters each.

    Nested folders are searched; hidden ones are not. No voxel is read.

    Args:
        dataset_dir: the folder.
        layout: how it names its files.
        require_label: whether a case without any rater is an error; for inference it need not have one.

    Returns:
        One dictionary per case, in the order of their names: ``patient`` (the name of the case), ``subject`` (the
        person), ``image`` (paths, one per modality), and where they exist ``raters`` (names), ``label`` (for each rater
        the paths, one per structure) and ``split`` (``"train"``, ``"validation"`` or ``"test"``, where the image lies
        in a folder of that name).

    Raises:
        CaseError: if there is no folder or no case, or a case has no image, no rater, two files in one place, or a
            rater lacks the mask of a structure.
    """
    root = Path(dataset_dir).expanduser().absolute()
    if not root.is_dir():
        raise CaseError(f"dataset_dir: {root} is no folder.")
    if layout.datalist is not None:
        return _listed(root, root / layout.datalist, require_label)
    files = [file[len(root.as_posix()) + 1 :] for file in find_files(root)]
    images = group_by_case(layout.image, files, {"modality": list(layout.modalities.values())})
    labels = {} if layout.label is None else group_by_case(layout.label, files, {"structure": list(layout.structures)})
    if not images:
        raise CaseError(f"dataset_dir: no image found under {root}, no file {layout.image}.")
    if require_label and (alone := sorted(set(labels) - set(images))):
        raise CaseError(
            f"case {alone[0]}: {root / labels[alone[0]][0].path} is there, but its image {layout.image} is missing."
        )
    cases = []
    for name in sorted(images):
        paths = _one_each(name, root, images[name], "modality", list(layout.modalities.values()) or [""])
        subject = images[name][0].fields.get("subject", name)
        case: dict[str, Any] = {"patient": name, "subject": subject, "image": paths}
        readings = _readings(name, root, labels.get(name, []), list(layout.structures) or [""])
        if readings:
            case |= {"raters": list(readings), "label": list(readings.values())}
        elif require_label:
            raise CaseError(f"case {name}: no rater, no file {layout.label} under {root}.")
        cases.append(case | _split_of(root, paths[0]))
    return cases


def _one_each(name: str, root: Path, files: Sequence[MatchedFile], field_name: str, values: Sequence[str]) -> list[str]:
    """The path of each value of a field, which must be there once."""
    by_value: dict[str, list[str]] = {}
    for file in files:
        by_value.setdefault(file.fields.get(field_name, ""), []).append(str(root / file.path))
    for value, paths in by_value.items():
        if len(paths) > 1:
            raise CaseError(f"case {name}: found twice, {paths[0]} and {paths[1]}.")
        if value not in values:
            raise CaseError(f"case {name}: {paths[0]} is of the {field_name} {value!r}, not of {list(values)}.")
    for value in values:
        if value not in by_value:
            raise CaseError(f"case {name}: its {field_name} {value!r} is missing.")
    return [by_value[value][0] for value in values]


def _readings(name: str, root: Path, files: Sequence[MatchedFile], structures: Sequence[str]) -> dict[str, list[str]]:
    """The files of each rater, one per structure."""
    by_rater: dict[str, list[MatchedFile]] = {}
    for file in files:
        by_rater.setdefault(file.fields.get("rater", ""), []).append(file)
    return {
        rater: _one_each(f"{name}, rater {rater}" if rater else name, root, found, "structure", structures)
        for rater, found in sorted(by_rater.items(), key=lambda item: _natural(item[0]))
    }


def _natural(name: str) -> tuple[int, int, str]:
    """So that rater 10 comes behind rater 9."""
    return (0, int(name), "") if name.isdecimal() else (1, 0, name)


def _split_of(root: Path, path: str) -> dict[str, str]:
    parts = [part for part in Path(path).relative_to(root).parts if part in SPLITS]
    return {"split": parts[0]} if parts else {}


def _listed(root: Path, file: Path, require_label: bool) -> list[dict[str, Any]]:
    """The cases of a Decathlon ``dataset.json``."""
    try:
        entries = load_decathlon_datalist(str(file), is_segmentation=True, data_list_key="training")
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise CaseError(f"{file} is no Decathlon dataset.json with `training`: {error}.") from None
    cases: dict[str, dict[str, Any]] = {}
    for entry in entries:
        if "image" not in entry:
            raise CaseError(f"{file}: an entry of training has no image: {json.dumps(entry)}.")
        image = _as_list(entry["image"])
        name = Path(image[0]).name.removesuffix(".gz").rsplit(".", 1)[0]
        labels = _as_list(entry.get("label", []))
        if missing := [path for path in (*image, *labels) if not Path(path).is_file()]:
            raise CaseError(f"case {name}: {missing[0]} is missing, but {file} names it.")
        if name in cases:
            raise CaseError(f"case {name}: found twice in {file}.")
        case: dict[str, Any] = {"patient": name, "subject": name, "image": image}
        if labels:
            case |= {"raters": [str(number) for number in range(1, len(labels) + 1)], "label": [[p] for p in labels]}
        elif require_label:
            raise CaseError(f"case {name}: no rater, {file} names no label.")
        cases[name] = case
    if not cases:
        raise CaseError(f"{file} names no case in `training`.")
    return [cases[name] for name in sorted(cases)]


def _as_list(value: Any) -> list[str]:
    return [str(path) for path in value] if isinstance(value, (list, tuple)) else [str(value)]
