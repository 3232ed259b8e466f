# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from monai.transforms import ScaleIntensityRanged

from monai_stochseg.data import kits_datalist
from monai_stochseg.tasks.description import DataDescription
from monai_stochseg.tasks.volumes import SplitOptions, VolumeOptions, VolumeTask


class KiTS(VolumeTask):
    """
    Kidneys and their tumours in CT (KiTS 2019, 2021 and 2023), of one reader.

    Args:
        dataset_dir: the folder, as it was delivered; see :py:func:`monai_stochseg.data.kits_datalist`.
        roi_size: see :py:class:`~monai_stochseg.tasks.volumes.VolumeOptions`, as the three that follow.
        patch_size: of the training's patches. Default: none, the network sees the centre of the volume as a whole.
        patches_per_image: patches that are taken of a volume each time.
        spacing: to resample to, in mm.
        split_fractions: of train, validation and test, where the data come without a split.
        seed: of the split.
        split_file: an earlier run's split, which is read and not drawn anew.
    """

    described = DataDescription(
        "KiTS 2019, 2021 or 2023 (https://kits-challenge.org), or simulated volumes made on first use",
        "NIfTI",
        "CT, the window of -200 to 300 HU scaled to [0, 1]",
        "CT",
        "hounsfield",
        (0, 1),
    )

    def __init__(
        self,
        dataset_dir: str | os.PathLike,
        roi_size: Sequence[int] = (32, 56, 56),
        patch_size: Sequence[int] | None = None,
        patches_per_image: int = 4,
        spacing: Sequence[float] | None = None,
        split_fractions: Sequence[float] = (0.7, 0.15, 0.15),
        seed: int = 0,
        split_file: str | os.PathLike | None = None,
    ) -> None:
        super().__init__(
            dataset_dir,
            ["ct"],
            ["background", "kidney", "tumour"],
            {"kidney": [1], "tumour": [2], "composite": [1, 2]},
            VolumeOptions(roi_size, spacing, patch_size, None, patches_per_image),
            SplitOptions(split_fractions, seed, split_file),
        )

    def datalist(self, require_label: bool = True) -> list[dict[str, Any]]:
        """All patients of the folder."""
        return kits_datalist(self.dataset_dir, require_label)

    def intensity(self) -> list[Callable]:
        """The window from -200 to 300 HU becomes 0 to 1."""
        return [ScaleIntensityRanged("image", a_min=-200, a_max=300, b_min=0.0, b_max=1.0, clip=True)]
