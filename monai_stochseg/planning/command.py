# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from monai_stochseg.data import CaseError, new_file
from monai_stochseg.data.rater_folder import RaterLayout, rater_datalist
from monai_stochseg.planning.agreement import agreement, warnings_of
from monai_stochseg.planning.choose import Choice, choose, choose_intensity
from monai_stochseg.planning.classes import Classes, name_classes
from monai_stochseg.planning.detect import detect_layout
from monai_stochseg.planning.experts import choose_experts
from monai_stochseg.planning.survey import CaseReport, survey
from monai_stochseg.planning.table import without_nan, write_table

_CACHE = ".plan_cache.json"


def plan(
    dataset_dir: str,
    out: str | None = None,
    image: str | None = None,
    label: str | None = None,
    class_names: Sequence[str] | None = None,
    known_raters: bool | None = None,
    minutes: float = 10.0,
    memory: float = 4.0,
    progress: bool = True,
) -> str:
    """
    Look at a folder of images with raters' masks, say what is there, and write a configuration for every bundle.

    docs/your_readers.md describes the layouts, the patterns and the rules.

    Args:
        dataset_dir: the folder.
        out: the file to write. Default: plan.json in the folder.
        image: pattern of the images, such as "images/{case}.png". Default: the known layouts are tried.
        label: pattern of the masks, such as "readers/{rater}/{case}.png".
        class_names: names of the classes, the background first. Default: those of dataset.json, or numbers.
        known_raters: whether a rater's name is the same person in all cases. Default: where the names are no numbers.
        minutes: how long a training may take on this machine.
        memory: GiB that a training step may take.
        progress: whether to show a bar.

    Returns:
        The table of what is there, and the file's path.
    """
    root = Path(dataset_dir).expanduser().absolute()
    detected = detect_layout(root, image, label)
    layout = detected.layout
    if known_raters is not None:
        layout = replace(layout, known_raters=known_raters)
    file = root / "plan.json" if out is None else Path(out).expanduser().absolute()
    cases = rater_datalist(root, layout)
    _check_writable(file)
    reports = survey(cases, layout, file.with_name(_CACHE), progress)
    _check_alike(reports)
    classes = name_classes(layout, reports, detected, class_names)
    subjects = len({case["subject"] for case in cases})
    if subjects < 3:
        raise CaseError(f"{root} has {subjects} persons; a split into train, validation and test needs three.")
    choice = choose(reports, subjects, minutes, memory)
    channels = _channel_names(layout, reports[0])
    intensity = choose_intensity(reports, channels, choice.reasons)
    experts = choose_experts(reports, choice.reasons)
    agreed = agreement(reports, classes.structures, layout.known_raters)
    warned = warnings_of(reports, subjects, classes.structures)
    content = _overlay(root, channels, classes, intensity, choice, len(reports[0].shape))
    content |= experts
    content["plan"] = {
        "cases": [report.patient for report in reports],
        "reasons": choice.reasons,
        "warnings": warned,
        "agreement": agreed,
    }
    with new_file(file) as temporary:
        temporary.write_text(json.dumps(without_nan(content), indent=4) + "\n", encoding="utf-8")
    return write_table(reports, classes.names, channels, agreed, choice, warned) + f"\nWrote {file}."


def _check_writable(file: Path) -> None:
    if not os.access(file.parent, os.W_OK):
        raise CaseError(f"out: {file} cannot be written; say where with --out.")


def _check_alike(reports: Sequence[CaseReport]) -> None:
    """All images have the dimensions and the channels of most."""
    for what, of in {"dimensions": lambda r: len(r.shape), "channels": lambda r: r.channels}.items():
        usual = Counter(map(of, reports)).most_common(1)[0][0]
        for report in reports:
            if of(report) != usual:
                raise CaseError(
                    f"case {report.patient}: its image has {of(report)} {what}, those of most have {usual}."
                )


def _channel_names(layout: RaterLayout, report: CaseReport) -> list[str]:
    if layout.modalities:
        return list(layout.modalities)
    if report.channels == 3 and len(report.shape) == 2:
        return ["red", "green", "blue"]
    return ["image"] if report.channels == 1 else [f"channel_{index}" for index in range(report.channels)]


def _overlay(
    root: Path,
    channels: Sequence[str],
    classes: Classes,
    intensity: Mapping[str, object],
    choice: Choice,
    spatial_dims: int,
) -> dict[str, Any]:
    """The configuration that makes a bundle of any method one of this folder."""
    layout = classes.layout
    given = {name: value for name, value in vars(layout).items() if value is not None and value != {} and value != []}
    return {
        "dataset_dir": str(root),
        "layout": {"_target_": "monai_stochseg.data.RaterLayout", **given},
        "channel_names": list(channels),
        "class_names": classes.names,
        "regions": classes.regions,
        "spatial_dims": spatial_dims,
        "spacing": choice.spacing,
        "patch_size": choice.patch_size,
        "roi_size": choice.roi_size,
        "patches_per_image": choice.patches_per_image,
        "size_divisible": 2 ** (len(choice.channels) - 1),
        "volume": {
            "_target_": "monai_stochseg.tasks.VolumeOptions",
            **{name: f"@{name}" for name in _VOLUME},
        },
        "normalization": intensity["normalization"],
        "window": intensity["window"],
        "intensity": {
            "_target_": "monai_stochseg.tasks.IntensityOptions",
            "normalization": "@normalization",
            "window": "@window",
        },
        "split_fractions": choice.split_fractions,
        "split_file": "$monai_stochseg.bundle.resumed_split(@output_dir, @resume)",
        "split": {
            "_target_": "monai_stochseg.tasks.SplitOptions",
            "fractions": "@split_fractions",
            "seed": "@seed",
            "filename": "@split_file",
        },
        "augmentation": None,
        "evaluation_transforms": [],
        "planned": {"dataset_dir": str(root), "cases": "@plan#cases"},
        "task": {"_target_": "monai_stochseg.tasks.RaterFolder", **{name: f"@{name}" for name in _TASK}},
        "channels": choice.channels,
        "strides": [2] * (len(choice.channels) - 1),
        "output_dir": f"$@bundle_root + '/output_{root.name}'",
        "max_epochs": choice.max_epochs,
        "val_interval": choice.val_interval,
        "images_per_epoch": choice.images_per_epoch,
        "batch_size": choice.batch_size,
        "eval_samples": 16,
        "test_samples": 100,
    }


_VOLUME = ("roi_size", "spacing", "patch_size", "patches_per_image", "size_divisible")
_TASK = (
    *("dataset_dir", "layout", "channel_names", "class_names", "regions", "spatial_dims"),
    *("volume", "intensity", "split", "planned"),
)
