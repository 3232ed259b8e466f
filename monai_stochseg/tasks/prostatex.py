# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from monai.transforms import NormalizeIntensityd

from monai_stochseg.data import PROSTATE_ZONES, prostatex_datalist
from monai_stochseg.tasks.description import DataDescription
from monai_stochseg.tasks.volumes import SplitOptions, VolumeOptions, VolumeTask
from monai_stochseg.transforms import MergeLabelPartsd


class ProstateX(VolumeTask):
    """
    The zones of the prostate in T2-weighted MRI (PROSTATEx-Seg-Zones), of one reader.

    Args:
        dataset_dir: the folder; see :py:func:`monai_stochseg.data.prostatex_datalist`.
        zones: the zones that are asked for, of ``PZ``, ``TZ``, ``DPU`` and ``AFS``; the others are background.
        roi_size: see :py:class:`~monai_stochseg.tasks.volumes.VolumeOptions`, as the three that follow.
        patch_size: of the training's patches. Default: none, the network sees the centre of the volume as a whole.
        patches_per_image: patches that are taken of a volume each time.
        spacing: to resample to, in mm.
        split_fractions: of train, validation and test, where the data come without a split.
        seed: of the split.
        split_file: an earlier run's split, which is read and not drawn anew.
    """

    described = DataDescription(
        "PROSTATEx with its zones (https://www.cancerimagingarchive.net/collection/prostatex), or simulated volumes "
        "made on first use",
        "NIfTI",
        "T2-weighted MRI, each volume to mean 0 and standard deviation 1",
        "MR",
    )

    def __init__(
        self,
        dataset_dir: str | os.PathLike,
        zones: Sequence[str] = tuple(PROSTATE_ZONES),
        roi_size: Sequence[int] = (24, 48, 48),
        patch_size: Sequence[int] | None = None,
        patches_per_image: int = 4,
        spacing: Sequence[float] | None = None,
        split_fractions: Sequence[float] = (0.7, 0.15, 0.15),
        seed: int = 0,
        split_file: str | os.PathLike | None = None,
    ) -> None:
        super().__init__(
            dataset_dir,
            ["t2"],
            ["background", *zones],
            None,
            VolumeOptions(roi_size, spacing, patch_size, None, patches_per_image),
            SplitOptions(split_fractions, seed, split_file),
        )
        self.zones = tuple(zones)

    def datalist(self, require_label: bool = True) -> list[dict[str, Any]]:
        """All patients of the folder."""
        return prostatex_datalist(self.dataset_dir, require_label, self.zones)

    def source(self, with_label: bool = True) -> list[Callable]:
        """As other volumes; one mask a zone becomes one map."""
        return [*super().source(with_label), MergeLabelPartsd()]

    def intensity(self) -> list[Callable]:
        """Zero mean and unit variance."""
        return [NormalizeIntensityd("image")]
