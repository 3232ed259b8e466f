# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from monai_stochseg.metrics.pairwise_distance import compute_pairwise_distance

from .database import LIDCScan
from .nodules import lidc_nodules


@dataclass(frozen=True)
class LIDCProtocol:
    """
    Choices that papers on LIDC leave open, and that change the numbers they publish.

    Args:
        min_raters: least number of raters who drew a nodule; see :py:func:`lidc_nodules`.
        crowded: rule for a cluster of more than four readings; see :py:func:`lidc_nodules`.
        max_slice_thickness: scans with thicker slices are left out, in mm.
        slice_raters: a slice of a nodule counts where at least this many of its masks are not empty; 0 counts every
            slice between the lowest and the highest outline.
        pairs: ``"distinct"``: the distance is the mean over the 6 pairs of two masks; ``"all"``: over all 16, each mask
            with itself too, as in the generalized energy distance.

    Raises:
        ValueError: when ``slice_raters`` or ``pairs`` is not one of those above.
    """

    min_raters: int = 1
    crowded: str = "central"
    max_slice_thickness: float = float("inf")
    slice_raters: int = 1
    pairs: str = "distinct"

    def __post_init__(self) -> None:
        if not 0 <= self.slice_raters <= 4:
            raise ValueError(f"slice_raters must lie in 0 to 4, as there are four masks, got {self.slice_raters}.")
        if self.pairs not in ("distinct", "all"):
            raise ValueError(f"pairs must be 'distinct' or 'all', got {self.pairs!r}.")


# Each but the first changes one choice of the first.
LIDC_PROTOCOLS: Mapping[str, LIDCProtocol] = {
    "default": LIDCProtocol(),
    "first_four_readings": LIDCProtocol(crowded="first"),
    "crowded_dropped": LIDCProtocol(crowded="drop"),
    "all_slices_of_the_box": LIDCProtocol(slice_raters=0),
    "two_masks_a_slice": LIDCProtocol(slice_raters=2),
    "two_raters_a_nodule": LIDCProtocol(min_raters=2),
    "three_raters_a_nodule": LIDCProtocol(min_raters=3),
    "four_raters_a_nodule": LIDCProtocol(min_raters=4),
    "slices_up_to_2.5_mm": LIDCProtocol(max_slice_thickness=2.5),
    "slices_up_to_3_mm": LIDCProtocol(max_slice_thickness=3.0),
    "pairs_with_self": LIDCProtocol(pairs="all"),
}


@dataclass(frozen=True)
class LIDCStatistics:
    """
    The numbers that papers publish about the 2D slices of LIDC.

    Args:
        num_patients: patients with at least one slice.
        num_nodules: nodules with at least one slice.
        num_slices: slices, each of one nodule.
        empty_masks: share of the masks of all slices, four in each, that are empty.
        distance: mean over the slices of 1 - IoU between the four masks; two empty masks agree.
    """

    num_patients: int
    num_nodules: int
    num_slices: int
    empty_masks: float
    distance: float


def lidc_statistics(scans: Iterable[LIDCScan], protocol: LIDCProtocol | None = None) -> LIDCStatistics:
    """
    Count slices and empty masks, and measure the distance between the four masks of a slice.

    Args:
        scans: the scans.
        protocol: the choices made; the default ones where None. :py:data:`LIDC_PROTOCOLS` names others.

    Returns:
        The statistics.

    Raises:
        ValueError: when no slice is left, or :py:func:`lidc_nodules` refuses the protocol.
    """
    protocol = protocol or LIDCProtocol()
    chosen = [scan for scan in scans if scan.slice_thickness <= protocol.max_slice_thickness]
    patients, empty, distances = [], [], []
    for nodule in lidc_nodules(chosen, protocol.min_raters, protocol.crowded):
        filled = nodule.label.max(axis=(1, 2))  # [raters, slices]
        counted = filled.sum(0) >= protocol.slice_raters
        if counted.any():
            patients.append(nodule.patient_id)
            empty.append(~filled[:, counted])
            masks = torch.from_numpy(nodule.label[..., counted].astype(np.uint8)).movedim(-1, 0)
            distances.append(compute_pairwise_distance(masks, distance=2))
    if not patients:
        raise ValueError(f"scans have no slice of a nodule under {protocol}.")
    distance = torch.cat(distances).double()
    raters = distance.shape[1]
    pairs = raters * (raters - 1) if protocol.pairs == "distinct" else raters**2  # a mask has distance 0 to itself
    return LIDCStatistics(
        num_patients=len(set(patients)),
        num_nodules=len(patients),
        num_slices=len(distance),
        empty_masks=float(np.concatenate(empty, axis=1).mean()),
        distance=float((distance.sum((1, 2)) / pairs).mean()),
    )
