# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from monai.transforms import Orientationd, ResizeWithPadOrCropd, SelectItemsd, Spacingd

_KEYS = ("image", "label")


def volume_transforms(
    load: Sequence[Callable],
    intensity: Callable,
    roi_size: Sequence[int],
    spacing: Sequence[float] | None = None,
) -> list[Callable]:
    """
    The transforms from a case of a datalist to the centre of its volume, which a network sees whole: ``image`` and,
    where there is one, ``label``, with the axes z (to the head), y (to the back), x (to the left).

    Args:
        load: give ``image`` and perhaps ``label``, such as :py:class:`monai_stochseg.transforms.LoadCased`.
        intensity: of ``image``, before the volume is padded with zeros.
        roi_size: of the centre, in voxels.
        spacing: to resample to, in mm; default: the file's.
    """
    resample = []
    if spacing is not None:
        modes = ("bilinear", "nearest")
        resample = [Spacingd(_KEYS, pixdim=spacing, mode=modes, dtype=np.float32, allow_missing_keys=True)]
    return [
        *load,
        SelectItemsd((*_KEYS, "patient"), allow_missing_keys=True),
        Orientationd(_KEYS, axcodes="SPL", labels=None, allow_missing_keys=True),
        *resample,
        intensity,
        ResizeWithPadOrCropd(_KEYS, spatial_size=roi_size, allow_missing_keys=True),
    ]
