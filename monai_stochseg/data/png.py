# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os

from PIL import Image


def check_png(file: str | os.PathLike) -> None:
    """
    Check the checksums of a PNG file, which PIL does not compare where it reads pixels.

    Raises:
        OSError: when the file cannot be read, or is no picture.
        SyntaxError: when a checksum differs.
    """
    with Image.open(file) as picture:
        picture.verify()
