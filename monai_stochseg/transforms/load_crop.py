# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from monai.data import MetaTensor
from monai.transforms import MapTransform
from monai.utils import ImageMetaKey

from monai_stochseg.data.lidc.crops_folder import read_crop
from monai_stochseg.distributions.arguments import check_arguments

# The usual lung window of LIDC's 2D sets.
LUNG_WINDOW = (-1000.0, 400.0)


class LoadCropd(MapTransform):
    """
    Load a crop of LIDC, as :py:func:`monai_stochseg.data.lidc.crops_datalist` lists it.

    It adds ``image`` ``[1, *S]``, a MetaTensor scaled so that the window becomes [-1, 1] and clipped to it, and
    ``label`` ``[R, *S]``, the masks of the folder's readers (uint8). A set that came with its window already applied
    keeps that one.

    Args:
        window: lowest and highest value in HU.
        with_label: whether to load the label.

    Raises:
        ValueError: when the window is empty.
    """

    @check_arguments
    def __init__(self, window: tuple[float, float] = LUNG_WINDOW, with_label: bool = True) -> None:
        super().__init__(["image", "label"] if with_label else "image")
        if len(window) != 2 or not window[0] < window[1]:
            raise ValueError(f"window must be (lowest, highest) in HU, got {tuple(window)}.")
        self.window = window
        self.with_label = with_label

    @check_arguments
    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Add image and label to a case of the datalist."""
        image, label = read_crop(data["folder"], data["index"], len(data["drawn"]))
        low, high = self.window if data["unit"] == "HU" else (0.0, 1.0)
        image = np.clip((image - low) / (high - low), 0, 1) * 2 - 1
        affine = np.diag([*data["spacing"], *[1.0] * (4 - len(data["spacing"]))])
        arrays = {"image": image[None].astype(np.float32)} | ({"label": label} if self.with_label else {})
        return dict(data) | {
            key: MetaTensor(array, affine=affine, meta={ImageMetaKey.FILENAME_OR_OBJ: f"{data['name']}.nii.gz"})
            for key, array in arrays.items()
        }
