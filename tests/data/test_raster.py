# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from monai_stochseg.data import CaseError
from monai_stochseg.data.raster import read_raster

GREY = np.arange(12, dtype=np.uint8).reshape(3, 4)


@pytest.mark.parametrize("ending", ["png", "tif", "bmp", "PNG"])
def test_rows_and_columns_stay(tmp_path, ending: str) -> None:
    Image.fromarray(GREY).save(tmp_path / f"a.{ending}")
    np.testing.assert_array_equal(read_raster("a", str(tmp_path / f"a.{ending}")), GREY[None])


def test_colour_and_16_bit(tmp_path) -> None:
    rgb = np.stack([GREY, GREY + 1, GREY + 2], -1)
    Image.fromarray(rgb).save(tmp_path / "rgb.png")
    np.testing.assert_array_equal(read_raster("a", str(tmp_path / "rgb.png")), np.moveaxis(rgb, -1, 0))
    deep = GREY.astype(np.uint16) * 5000
    Image.fromarray(deep).save(tmp_path / "deep.png")
    np.testing.assert_array_equal(read_raster("a", str(tmp_path / "deep.png")), deep[None])


def test_masks_may_have_a_palette_three_equal_channels_or_an_opaque_alpha(tmp_path) -> None:
    palette = Image.fromarray(GREY % 2, mode="P")
    palette.putpalette([0, 0, 0, 255, 0, 0])
    palette.save(tmp_path / "p.png")
    Image.fromarray(np.stack([GREY % 2] * 3, -1)).save(tmp_path / "rgb.png")
    Image.fromarray(np.stack([GREY % 2] * 3 + [np.full_like(GREY, 255)], -1)).save(tmp_path / "rgba.png")
    for name in ("p", "rgb", "rgba"):
        np.testing.assert_array_equal(read_raster("a", str(tmp_path / f"{name}.png"), is_label=True), GREY[None] % 2)


@pytest.mark.parametrize(
    ("mode", "is_label", "message"),
    [
        ("CMYK", False, "the mode CMYK; save it as grey or RGB"),
        ("P", False, "a palette; save it as grey or RGB"),
        ("RGBA", False, "an alpha channel that is not opaque"),
        ("RGB", True, "is a coloured mask"),
        ("frames", False, "has 2 frames"),
        ("cut", False, "cannot be read"),
        ("text", False, "cannot be read"),
    ],
)
def test_what_cannot_be_an_image_is_refused_by_case_and_file(tmp_path, mode: str, is_label: bool, message: str) -> None:
    file = tmp_path / "a.tif"
    if mode == "frames":
        Image.fromarray(GREY).save(file, save_all=True, append_images=[Image.fromarray(GREY)])
    elif mode in ("cut", "text"):
        Image.fromarray(GREY).save(file, compression="tiff_lzw")
        file.write_bytes(file.read_bytes()[:20] if mode == "cut" else b"no image")
    else:
        bands = len(Image.new(mode, (1, 1)).getbands())
        array = np.stack([GREY + band for band in range(bands)], -1) if bands > 1 else GREY
        Image.fromarray(array, mode=mode).save(file)
    with pytest.raises(CaseError, match=rf"case x: .*a\.tif .*{message}"):
        read_raster("x", str(file), is_label)


def test_an_image_of_too_many_pixels_is_refused(tmp_path, monkeypatch) -> None:
    Image.fromarray(GREY).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2)
    with pytest.raises(CaseError, match=r"case x: .*exceeds limit"):
        read_raster("x", str(tmp_path / "a.png"))
