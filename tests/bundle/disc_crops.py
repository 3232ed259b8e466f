# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from monai_stochseg.data.lidc import load_manifest
from monai_stochseg.data.lidc.crops import LIDCCrop

PATIENTS = {"train": 4, "validation": 2, "test": 2}  # of the manifest "kohl"


def disc_crops(spatial_dims: int, size: int, came_split: bool = False) -> Iterator[LIDCCrop]:
    """Two crops a patient: what the first reader drew is bright, without noise; the last reader drew nothing."""
    rng = np.random.default_rng(0)
    center = (size - 1) / 2
    distance = np.sqrt(sum((axis - center) ** 2 for axis in np.indices((size,) * spatial_dims)))
    for part, number in PATIENTS.items():
        for patient in load_manifest("kohl").parts[part][:number]:
            for i in range(2):
                label = np.stack([distance < size * radius for radius in (*rng.uniform(0.15, 0.35, 3), 0)])
                image = np.where(label[0], 400, -1000)
                drawn, spacing = label.reshape(4, -1).any(1), (0.5,) * spatial_dims
                yield LIDCCrop(
                    f"{patient}_{i}", patient, image, label, drawn, spacing, split=part if came_split else None
                )
