# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from monai.utils import ImageMetaKey
from PIL import Image

from monai_stochseg.data import new_file
from monai_stochseg.distributions.arguments import check_arguments, check_per_axis, check_positive

# Of the classes, by their index; the same colours again after these (Okabe and Ito, safe for colour blindness).
PALETTE = ("#000000", "#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7")


class SaveRasterd(MapTransform):
    """
    Save 2D maps as PNG: label maps ``[N, H, W]`` as indices of a palette, a file per map, and shares from 0 to
    ``maximum`` ``[1, H, W]`` as grey of 16 bits, of which 65535 is ``maximum``.

    A file appears whole or not at all. It is named ``CASE_<postfix>.png`` by the image's file name, and where there are
    several maps ``CASE_<postfix>_00.png`` and so on.

    Args:
        keys: keys of the maps.
        output_dir: where; made when absent.
        postfixes: of the files, one per key.
        maximum: of shares, one per key or for all; None: these are label maps.
        allow_missing_keys: whether a map may be absent.

    Raises:
        ValueError: if a ``maximum`` is not positive, or another number of postfixes or maxima is given than keys; at a
            call, if a map is not two-dimensional, holds no labels from 0 to 255, or no shares.
    """

    @check_arguments
    def __init__(
        self,
        keys: KeysCollection,
        output_dir: str | os.PathLike,
        postfixes: str | Sequence[str],
        maximum: float | Sequence[float | None] | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if not str(output_dir):
            raise ValueError("output_dir must be a folder, got an empty text.")
        self.output_dir = Path(output_dir)
        self.postfixes = check_per_axis("postfixes", postfixes, len(self.keys), "keys")
        self.maximum = check_per_axis("maximum", maximum, len(self.keys), "keys")
        if not all(self.postfixes):
            raise ValueError(f"postfixes must not be empty, got {list(self.postfixes)}.")
        for each in self.maximum:
            if each is not None:
                check_positive(maximum=each)

    @check_arguments
    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Save the maps of one item."""
        d = dict(data)
        for key, postfix, maximum in self.key_iterator(d, self.postfixes, self.maximum):
            if not isinstance(d[key], MetaTensor) or d[key].is_complex():
                raise TypeError(f"{key} must be a MetaTensor of real numbers, got {type(d[key]).__name__}.")
            maps = torch.as_tensor(d[key]).as_subclass(torch.Tensor).cpu()
            if maps.dim() != 3 or not maps.numel():
                raise ValueError(f"{key} must be [N, H, W] to become PNG, got the shape {list(maps.shape)}.")
            if maximum is None and not bool(((maps >= 0) & (maps <= 255) & (maps == maps.round())).all()):
                raise ValueError(f"{key} must hold labels, integers from 0 to 255.")
            if maximum is not None and not bool(((maps >= -1e-3) & (maps <= maximum * 1.001)).all()):
                raise ValueError(f"{key} must hold values from 0 to its maximum {maximum:g}.")
            name = Path(str(d[key].meta[ImageMetaKey.FILENAME_OR_OBJ])).stem
            for index, each in enumerate(maps):
                number = f"_{index:02d}" if len(maps) > 1 else ""
                with new_file(self.output_dir / f"{name}_{postfix}{number}.png") as temporary:
                    _picture(each, maximum).save(temporary, format="png")
        return d


def picture_of_map(labels: np.ndarray) -> Image.Image:
    """A label map ``[H, W]`` as a picture whose pixels are indices of a palette."""
    picture = Image.fromarray(np.ascontiguousarray(labels, dtype=np.uint8), mode="P")
    colours = [int(colour[i : i + 2], 16) for colour in PALETTE for i in (1, 3, 5)]
    picture.putpalette([*colours, *colours[3:] * 36][: 3 * 256])
    return picture


def picture_of_shares(shares: np.ndarray) -> Image.Image:
    """Shares ``[H, W]`` from 0 to 1 as grey of 16 bits."""
    return Image.fromarray((shares.clip(0, 1) * 65535).round().astype(np.uint16))


def _picture(values: torch.Tensor, maximum: float | None) -> Image.Image:
    return picture_of_map(values.numpy()) if maximum is None else picture_of_shares(values.numpy() / maximum)
