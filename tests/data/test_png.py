# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from monai_stochseg.data.png import check_png


@pytest.fixture
def file(tmp_path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 20, (40, 60)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def test_a_whole_file_passes(file) -> None:
    check_png(file)


def test_every_flipped_bit_of_the_pixels_is_seen(file) -> None:
    whole = file.read_bytes()
    start, end = whole.index(b"IDAT"), whole.rindex(b"IEND")
    for place in np.random.default_rng(1).integers(start + 4, end - 4, 60):
        damaged = bytearray(whole)
        damaged[place] ^= 4
        file.write_bytes(damaged)
        with pytest.raises(SyntaxError, match="checksum"):
            check_png(file)


def test_what_is_no_picture(file) -> None:
    file.write_bytes(b"no picture")
    with pytest.raises(OSError, match="cannot identify"):
        check_png(file)
