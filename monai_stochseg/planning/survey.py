# SPDX-License-Identifier: Apache-2.0
"""Look at every case of a folder once: sizes, intensities, structures, and how far its raters agree."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from monai_stochseg.data import CaseError, new_file
from monai_stochseg.data.case import check_geometry
from monai_stochseg.data.raster import is_raster
from monai_stochseg.data.rater_folder import RaterLayout
from monai_stochseg.data.voxels import Voxels, read_voxels

_PERCENTILES = (0.5, 5.0, 50.0, 95.0, 99.5)
_MAX_VALUES = 64  # of a mask; more are no classes


@dataclass
class StructureReport:
    """
    One structure, or value of the masks, in one case.

    Args:
        voxels: of each rater.
        extent: largest size along each axis that a rater drew, in voxels.
        dice: mean over the pairs of raters; NaN with one rater.
        iou: as ``dice``.
        distance: ``1 - IoU`` of each pair of raters, those with themselves included, its mean.
        dice_to_others: of each rater the mean Dice to the others.
        percentiles: of the first channel's intensity inside, at 0.5, 5, 50, 95 and 99.5 %.
    """

    voxels: list[int]
    extent: list[int]
    dice: float
    iou: float
    distance: float
    dice_to_others: list[float]
    percentiles: list[float]


@dataclass
class CaseReport:
    """
    What one case holds.

    Args:
        patient: name of the case.
        shape: of the image, without channels.
        spacing: of its axes in mm, in the orientation RAS for volumes; ones for an image without a spacing.
        channels: number of them.
        integer: whether all intensities are whole numbers.
        percentiles: of all intensities, at 0.5, 5, 50, 95 and 99.5 %.
        low: lowest intensity.
        high: highest intensity.
        raters: names.
        values: values of the masks, or with a mask per structure the combinations found, as sums of ``2 ** index``.
        structures: what is known of each value but 0, or of each structure by its index.
    """

    patient: str
    shape: list[int]
    spacing: list[float]
    channels: int
    integer: bool
    percentiles: list[float]
    low: float
    high: float
    raters: list[str]
    values: list[int]
    structures: dict[str, StructureReport] = field(default_factory=dict)


def survey(
    cases: Sequence[Mapping[str, Any]], layout: RaterLayout, cache: Path | None = None, progress: bool = True
) -> list[CaseReport]:
    """
    Look at every case; one whose files are as they were is taken from the cache.

    Args:
        cases: as :py:func:`monai_stochseg.data.rater_datalist` lists them.
        layout: what the masks hold.
        cache: a file to read and to write. Default: none.
        progress: whether to show a bar.

    Raises:
        CaseError: if a case cannot be used, naming it and the file.
    """
    known: dict[str, Any] = {}
    if cache is not None and cache.is_file():
        try:
            known = json.loads(cache.read_text(encoding="utf-8"))
        except ValueError:
            known = {}  # a survey makes it anew
    found, reports = {}, []
    try:
        for case in tqdm(cases, disable=not progress, desc="cases", leave=False):
            key = _fingerprint(case, layout)
            entry = known.get(key)
            report = look_at(case, layout) if entry is None else _from_json(entry)
            found[key] = asdict(report)
            reports.append(report)
    finally:
        if cache is not None:
            with new_file(cache) as temporary:
                temporary.write_text(json.dumps({**known, **found}), encoding="utf-8")
    return reports


def look_at(case: Mapping[str, Any], layout: RaterLayout) -> CaseReport:
    """
    Look at one case.

    Args:
        case: of a datalist.
        layout: what the masks hold.

    Raises:
        CaseError: if it cannot be used.
    """
    name = case["patient"]
    images = [read_voxels(name, file) for file in case["image"]]
    readings = [[read_voxels(name, file, is_label=True) for file in files] for files in case.get("label", [])]
    every = [*images, *(mask for reading in readings for mask in reading)]
    check_geometry(name, {one.file: (one.voxels.shape[1:], one.affine) for one in every})
    image = torch.cat([one.voxels for one in images])
    if bad := int((~torch.isfinite(image)).sum()):
        raise CaseError(f"case {name}: {case['image'][0]} has {bad} voxels that are NaN or infinite.")
    values, masks = _masks(name, readings, layout)
    finest = image.flatten().double().numpy()
    return CaseReport(
        patient=name,
        shape=list(image.shape[1:]),
        spacing=_spacing(case["image"][0], images[0]),
        channels=len(image),
        integer=bool((image == image.round()).all()),
        percentiles=np.percentile(finest, _PERCENTILES).tolist(),
        low=float(finest.min()),
        high=float(finest.max()),
        raters=list(case.get("raters", [])),
        values=values,
        structures={key: _structure(stack, image[0]) for key, stack in masks.items()},
    )


def _masks(
    name: str, readings: Sequence[Sequence[Voxels]], layout: RaterLayout
) -> tuple[list[int], dict[str, torch.Tensor]]:
    """The values, and for each of them or each structure the raters' masks ``[R, *S]``."""
    for mask in (mask for reading in readings for mask in reading):
        if len(mask.voxels) != 1:
            raise CaseError(f"case {name}: {mask.file} has {len(mask.voxels)} channels; a mask has one.")
        if bool((mask.voxels != mask.voxels.round()).any()):  # NaN too
            raise CaseError(f"case {name}: {mask.file} has values that are no whole numbers; a mask has classes.")
    if not readings:
        return [], {}
    if layout.structures:
        stacks = {
            str(place): torch.stack([reading[place].voxels[0] > 0 for reading in readings])
            for place in range(len(layout.structures))
        }
        codes = sum(stack.long() << int(place) for place, stack in stacks.items())
        return torch.unique(torch.as_tensor(codes)).tolist(), stacks
    values: set[int] = set()
    for reading in readings:
        own = torch.unique(reading[0].voxels).long().tolist()
        if len(own) > _MAX_VALUES:
            raise CaseError(
                f"case {name}: {reading[0].file} has {len(own)} values, too many for classes; is it an image, or a "
                "mask that was saved as JPEG or interpolated?"
            )
        values.update(own)
    label = torch.stack([reading[0].voxels[0] for reading in readings])
    return sorted(values), {str(value): label == value for value in sorted(values) if value != 0}


def _structure(masks: torch.Tensor, image: torch.Tensor) -> StructureReport:
    """One structure of one case, ``[R, *S]``."""
    flat = masks.flatten(1)
    sizes = flat.sum(1)
    raters = len(masks)
    common = (flat.float() @ flat.float().T).double()
    total = (sizes[:, None] + sizes[None]).double()
    # two raters who both drew nothing agree
    dice = torch.where(total > 0, 2 * common / total.clamp(min=1), 1.0)
    iou = torch.where(total > 0, common / (total - common).clamp(min=1), 1.0)
    pairs = list(combinations(range(raters), 2))
    inside = image[masks.any(0)].double().numpy()
    others = (dice.sum(1) - 1) / max(1, raters - 1)
    places = masks.any(0).nonzero()
    extent = (places.max(0).values - places.min(0).values + 1).tolist() if len(places) else [0] * image.dim()
    return StructureReport(
        voxels=sizes.tolist(),
        extent=extent,
        dice=float(np.mean([dice[a, b] for a, b in pairs])) if pairs else float("nan"),
        iou=float(np.mean([iou[a, b] for a, b in pairs])) if pairs else float("nan"),
        distance=float((1 - iou).mean()),
        dice_to_others=others.tolist() if raters > 1 else [],
        percentiles=np.percentile(inside, _PERCENTILES).tolist() if len(inside) else [],
    )


def _spacing(file: str, image: Voxels) -> list[float]:
    if is_raster(file):
        return [1.0] * 2
    affine = image.affine.numpy()
    dims = image.voxels.dim() - 1
    steps = np.abs(affine[:3, :3])
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    if dims < 3:
        return sizes[:dims].tolist()
    order = [int(np.argmax(steps[axis] / np.maximum(sizes, 1e-9))) for axis in range(3)]
    order = order if sorted(order) == [0, 1, 2] else [0, 1, 2]
    return sizes[order].tolist()


def _fingerprint(case: Mapping[str, Any], layout: RaterLayout) -> str:
    """Changes when a file of the case, or what its masks mean, does."""
    files = [*case["image"], *(file for reading in case.get("label", []) for file in reading)]
    stats = [(file, (stat := os.stat(file)).st_size, stat.st_mtime_ns) for file in files]
    return json.dumps([case["patient"], case.get("raters", []), list(layout.structures), stats])


def _from_json(entry: Mapping[str, Any]) -> CaseReport:
    structures = {key: StructureReport(**value) for key, value in entry["structures"].items()}
    return CaseReport(**{**entry, "structures": structures})
