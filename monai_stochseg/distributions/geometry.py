# SPDX-License-Identifier: Apache-2.0
"""Where an image lies in space, for the answers about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from monai.data import MetaTensor

__all__ = ["Geometry"]


@dataclass(frozen=True)
class Geometry:
    """
    The metadata of an image and the transforms that were applied to it, without its voxels.

    Args:
        meta: of a MetaTensor, with its affine and file name.
        applied_operations: of a MetaTensor, for MONAI's ``Invertd``.
        is_batch: whether both are of a batch.

    Example::

        >>> image = MetaTensor(torch.zeros(1, 1, 4, 4), affine=2 * torch.eye(4))
        >>> Geometry.of(image).attach(torch.zeros(1, 3, 4, 4)).affine[0, 0].item()
        2.0
    """

    meta: dict[str, Any]
    applied_operations: Any
    is_batch: bool

    @classmethod
    def of(cls, image: torch.Tensor) -> Geometry | None:
        """
        The geometry of an image; None where it is a plain tensor.

        Args:
            image: a MetaTensor, or a plain tensor.
        """
        return cls(image.meta, image.applied_operations, image.is_batch) if isinstance(image, MetaTensor) else None

    def attach(self, x: torch.Tensor) -> MetaTensor:
        """
        A tensor with this geometry, so that MONAI's ``Invertd`` and ``SaveImaged`` put it on the image's grid.

        Args:
            x: of the image's batch and spatial axes.
        """
        meta = MetaTensor(x, meta=self.meta, applied_operations=self.applied_operations)
        meta.is_batch = self.is_batch
        return meta
