# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import NamedTuple

__all__ = ["DataDescription"]


class DataDescription(NamedTuple):
    """
    What a data set is, in the words of a bundle's metadata.

    Args:
        source: where the data are from.
        data_type: the kind of file.
        image: what the image's voxels are.
        modality: such as ``CT`` or ``MR``.
        format: such as ``hounsfield`` or ``magnitude``.
        value_range: lowest and highest value of the image that a network sees. Default: any.
        references: publications of the data.
    """

    source: str = "a folder of images and readers' masks"
    data_type: str = "NIfTI or raster images"
    image: str = "each image to mean 0 and standard deviation 1"
    modality: str = "n.a."
    format: str = "magnitude"
    value_range: tuple[float, ...] = ()
    references: tuple[str, ...] = ()
