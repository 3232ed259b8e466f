# SPDX-License-Identifier: Apache-2.0
"""Which classes the masks of a folder have, and which structures are judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from monai_stochseg.data import CaseError
from monai_stochseg.data.rater_folder import RaterLayout
from monai_stochseg.planning.detect import Detected
from monai_stochseg.planning.survey import CaseReport


@dataclass(frozen=True)
class Classes:
    """
    The classes of a folder.

    Args:
        layout: with the map from what the masks hold to the classes.
        names: of the classes, the background first.
        regions: structures by their classes, where they are not the classes themselves.
        structures: name of each structure by its key in the reports.
    """

    layout: RaterLayout
    names: list[str]
    regions: dict[str, list[int]] | None
    structures: dict[str, str]


def name_classes(
    layout: RaterLayout, reports: Sequence[CaseReport], detected: Detected, class_names: Sequence[str] | None
) -> Classes:
    """
    Number the values of the masks 0 to C - 1, or, where each structure has a mask, the combinations that occur.

    Args:
        layout: of the files.
        reports: of all cases.
        detected: has the names that the folder gives.
        class_names: names that the user gives, the background first; of structures with a mask each, theirs.

    Raises:
        CaseError: if there is no background, nothing but background, or another number of names.
    """
    values = sorted({value for report in reports for value in report.values})
    if values and values[0] < 0:
        raise CaseError(f"masks have the value {values[0]}; classes are 0, the background, and above.")
    if layout.structures:
        return _combined(layout, values, class_names)
    if not values or values == [0]:
        raise CaseError("masks hold nothing but background: no rater drew anything.")
    if values[0] != 0:
        raise CaseError(f"masks have the values {values} and no 0, which is the background.")
    names = _names(values, detected.class_names, class_names)
    layout = replace(layout, label_map={value: index for index, value in enumerate(values)})
    structures = {str(value): name for value, name in zip(values, names, strict=True) if value}
    return Classes(layout, names, _brats_regions(names), structures)


def _names(values: Sequence[int], found: Mapping[int, str], given: Sequence[str] | None) -> list[str]:
    if given is not None:
        if len(given) != len(values):
            raise CaseError(f"class_names: masks have the {len(values)} values {list(values)}, got {list(given)}.")
        return [str(name) for name in given]
    if len(values) == 2 and not found:
        return ["background", "structure"]
    names = ["background", *(found.get(value, f"class_{value}") for value in values[1:])]
    return names if len(set(names)) == len(names) else ["background", *(f"class_{value}" for value in values[1:])]


def _brats_regions(names: Sequence[str]) -> dict[str, list[int]] | None:
    """The structures of BraTS: whole tumour, tumour core, enhancing tumour, and the resection cavity."""
    if not {"NET", "OD", "ET"} <= set(names):
        return None
    place = {name: index for index, name in enumerate(names)}
    regions = {"WT": ["NET", "OD", "ET"], "TC": ["NET", "ET"], "ET": ["ET"], "RC": ["RC"]}
    return {region: [place[n] for n in parts] for region, parts in regions.items() if set(parts) <= set(names)}


def _combined(layout: RaterLayout, codes: Sequence[int], given: Sequence[str] | None) -> Classes:
    """Classes of masks that may overlap: each combination that occurs."""
    labels = list(layout.structures) if given is None else [str(name) for name in given if name != "background"]
    if len(labels) != len(layout.structures):
        raise CaseError(f"class_names: there are the structures {list(layout.structures)}, got {list(given or ())}.")
    chosen = [[place for place in range(len(labels)) if code >> place & 1] for code in codes if code]
    if not chosen:
        raise CaseError("masks hold nothing but background: no rater drew anything.")
    chosen = [[], *sorted(chosen, key=lambda places: (len(places), places))]
    names = ["background", *(" and ".join(labels[place] for place in places) for places in chosen[1:])]
    regions = {
        label: [index for index, places in enumerate(chosen) if place in places] for place, label in enumerate(labels)
    }
    regions = {label: classes for label, classes in regions.items() if classes}
    return Classes(
        replace(layout, combinations=chosen), names, regions, {str(place): label for place, label in enumerate(labels)}
    )
