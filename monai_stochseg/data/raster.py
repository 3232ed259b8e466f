# SPDX-License-Identifier: Apache-2.0
"""Read 2D images of PNG, JPEG, TIFF and BMP."""

from __future__ import annotations

import numpy as np
from PIL import Image

from .case import CaseError
from .png import check_png

RASTER_ENDINGS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")

_GREY = ("1", "L", "I;16", "I;16L", "I;16B", "I", "F")


def is_raster(file: str) -> bool:
    """Whether a file is one of PNG, JPEG, TIFF and BMP, by its name."""
    return file.lower().endswith(RASTER_ENDINGS)


def read_raster(patient: str, file: str, is_label: bool = False) -> np.ndarray:
    """
    Read the pixels of an image, or of a mask.

    Args:
        patient: name of the case, for the errors.
        file: path of the file.
        is_label: whether it is a mask: one channel, a palette's indices, or three channels that are equal.

    Returns:
        ``[C, H, W]``, in the type of the file; C is 1 for grey images and masks, and 3 for colour images.

    Raises:
        CaseError: if the file cannot be read, has several frames, is CMYK, has a palette (an image) or an alpha
            channel that is not opaque, or a mask is coloured.
    """
    try:
        if file.lower().endswith(".png"):
            check_png(file)
        with Image.open(file) as opened:
            frames = getattr(opened, "n_frames", 1)
            opened.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise CaseError(f"case {patient}: {file} cannot be read ({error}).") from None
    image: Image.Image = opened
    if frames > 1:
        raise CaseError(f"case {patient}: {file} has {frames} frames; save one frame a file.")
    if image.mode in ("LA", "RGBA"):
        if np.asarray(image.getchannel("A")).min() < 255:
            raise CaseError(f"case {patient}: {file} has an alpha channel that is not opaque; save it without alpha.")
        image = image.convert(image.mode[:-1])
    if image.mode == "P" and is_label:
        return np.array(image)[None]
    if image.mode in _GREY:
        return np.array(image)[None]
    if image.mode != "RGB":
        kind = "a palette" if image.mode == "P" else f"the mode {image.mode}"
        raise CaseError(f"case {patient}: {file} has {kind}; save it as grey or RGB.")
    values = np.moveaxis(np.array(image), -1, 0)
    if is_label:
        if (values != values[:1]).any():
            raise CaseError(f"case {patient}: {file} is a coloured mask; save the numbers of classes as grey values.")
        return values[:1]
    return values
