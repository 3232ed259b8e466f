# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import gzip
import struct
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from monai.transforms import LoadImage

from monai_stochseg.data import CaseError
from monai_stochseg.data.nifti import WholeNibabelReader, check_channels, read_header

SIZE = (9, 8, 7)
DIM, AFFINE_ROWS, QFORM_CODE = 40, 280, 252  # places in a header of NIfTI 1


@pytest.fixture
def file(tmp_path) -> Path:
    voxels = np.random.default_rng(0).integers(0, 500, SIZE).astype(np.int16)
    nib.save(nib.Nifti1Image(voxels, np.diag([2.0, 2, 3, 1])), tmp_path / "t2.nii.gz")
    return tmp_path / "t2.nii.gz"


def load(file: Path) -> np.ndarray:
    reader = LoadImage(simple_keys=True)
    reader.register(WholeNibabelReader())
    return reader(file)


def write_dim(file: Path, *dim: int) -> None:
    content = bytearray(gzip.decompress(file.read_bytes()))
    struct.pack_into(f"<{len(dim)}h", content, DIM, *dim)
    file.write_bytes(gzip.compress(bytes(content)))


def test_reads_as_monai_does(file) -> None:
    """Also scaled voxels, and files that are not compressed."""
    scaled = nib.load(file)
    scaled.header.set_slope_inter(0.5, -3)
    for path in (file, file.with_name("scaled.nii.gz"), file.with_name("plain.nii")):
        if not path.exists():
            nib.save(scaled, path)
        ours, theirs = load(path), LoadImage(simple_keys=True)(path)
        assert np.array_equal(ours, theirs)
        assert np.array_equal(ours.affine, theirs.affine)
        assert ours.meta["filename_or_obj"] == theirs.meta["filename_or_obj"] == str(path)


def test_no_flipped_bit_changes_a_voxel(file) -> None:
    """The checksum stands behind the last voxel, where a reader that stops there does not see it."""
    whole, expected = file.read_bytes(), np.asarray(load(file))
    rng = np.random.default_rng(1)
    for place in rng.integers(20, len(whole) - 8, 60):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(rng.integers(8))
        file.write_bytes(damaged)
        try:
            found = np.asarray(load(file))
        except Exception:  # of zlib, gzip or nibabel
            continue
        assert np.array_equal(found, expected)


def test_a_file_of_several_gzip_members_is_read(file) -> None:
    content = gzip.decompress(file.read_bytes())
    expected = np.asarray(load(file))
    file.write_bytes(gzip.compress(content[:500]) + gzip.compress(content[500:]))
    assert np.array_equal(load(file), expected)


def test_a_header_says_shape_and_affine(file) -> None:
    header = read_header("p", str(file))
    assert header.shape == SIZE
    assert np.array_equal(header.affine, np.diag([2, 2, 3, 1]))


def colours(file: Path) -> None:
    nib.save(nib.Nifti1Image(np.zeros(SIZE, dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")]), np.eye(4)), file)


def complex_numbers(file: Path) -> None:
    nib.save(nib.Nifti1Image(np.zeros(SIZE, dtype=np.complex64), np.eye(4)), file)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda file: write_dim(file, 3, 32767, 32767, 32767),
            r"is cut off, \d+ bytes cannot hold .*\(32767, 32767, 32",
        ),
        (lambda file: write_dim(file, 3, 9, -8, 7), r"has the shape \(9, -8, 7\) in its header; save it again"),
        (lambda file: write_dim(file, 3, 9, 0, 7), r"has the shape \(9, 0, 7\) in its header; save it again"),
        (lambda file: write_dim(file, 0), r"has the shape \(0,\) in its header; save it again"),
        (lambda file: write_dim(file, 99), r"cannot be read"),
        (lambda file: file.write_bytes(file.read_bytes()[:40]), r"cannot be read \(\w+: .*copy or download it again"),
        (lambda file: file.write_bytes(b""), r"cannot be read \(\w+: .*copy or download it again"),
        (lambda file: file.unlink(), r"cannot be read \(FileNotFoundError"),
        (colours, r"has voxels of the type .*such as colours"),
        (complex_numbers, r"has voxels of the type complex64"),
    ],
)
def test_refuses_header(file, damage, message) -> None:
    damage(file)
    with pytest.raises(CaseError, match=rf"^patient p: {file} {message}"):
        read_header("p", str(file))


def test_half_a_file_is_seen_in_its_header(file) -> None:
    plain = file.with_name("t2.nii")
    plain.write_bytes(gzip.decompress(file.read_bytes()))
    assert read_header("p", str(plain)).shape == SIZE
    plain.write_bytes(plain.read_bytes()[:-1])
    with pytest.raises(
        CaseError, match=r"t2.nii is cut off, 1359 bytes cannot hold the voxels .* \(1360 bytes\); copy"
    ):
        read_header("p", str(plain))


def test_zeros_compress_as_well_as_can_be(tmp_path) -> None:
    """No real file is taken for one that is cut off."""
    nib.save(nib.Nifti1Image(np.zeros((128, 128, 128), np.uint8), np.eye(4)), tmp_path / "raw.nii")
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress((tmp_path / "raw.nii").read_bytes(), 9))
    assert read_header("p", str(tmp_path / "a.nii.gz")).shape == (128, 128, 128)


@pytest.mark.parametrize(
    ("found", "channels", "right"),
    [((), 1, True), ((1,), 1, True), ((2,), 1, False), ((1, 2), 1, False), ((1, 1), 1, False), ((4,), 4, True),
     ((), 4, False), ((3,), 4, False)],
)  # fmt: skip
def test_channels(found, channels, right) -> None:
    def check() -> None:
        check_channels("p", "a.nii", (2, 2, 2, *found), found, channels)

    if right:
        check()
    else:
        with pytest.raises(CaseError, match=r"^patient p: a.nii has shape \(2, 2, 2.*\), but should .*name a Layout"):
            check()
