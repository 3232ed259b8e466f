# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

import numpy as np
import pytest

from monai_stochseg.data.lidc import cache, lidc_scans
from monai_stochseg.data.lidc.database import SCAN_FIELDS


@pytest.fixture
def reads(scans, monkeypatch) -> list[bool]:
    """A few scans in the place of all; the list grows with each reading of the database."""
    calls: list[bool] = []

    def read(progress):
        calls.append(progress)
        return scans

    monkeypatch.setattr(cache, "read_lidc_database", read)
    return calls


def test_keeps_everything(scans, reads, tmp_path) -> None:
    path = tmp_path / "new" / "lidc.npz"
    lidc_scans(path)
    kept = lidc_scans(path, progress=False)
    assert reads == [True]
    assert [file.name for file in path.parent.iterdir() if file.suffix != ".lock"] == ["lidc.npz"]
    for scan, expected in zip(kept, scans, strict=True):
        for name in SCAN_FIELDS:
            assert getattr(scan, name) == getattr(expected, name)
        np.testing.assert_array_equal(scan.slice_positions, expected.slice_positions)
        assert list(map(len, scan.clusters)) == list(map(len, expected.clusters))
        for reading, other in zip(chain(*scan.clusters), chain(*expected.clusters), strict=True):
            assert reading.id == other.id
            for name in ("attributes", "origin", "mask"):
                np.testing.assert_array_equal(getattr(reading, name), getattr(other, name))


def _cut(path):
    path.write_bytes(path.read_bytes()[:1000])


def _flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(bytes(content))


@pytest.mark.parametrize(
    "damage",
    [
        _cut,
        _flip,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_text("no cache"),
        lambda path: np.savez(path, key="other"),
        lambda path: np.savez(path, masks=0),
    ],
    ids=["cut", "flipped", "empty", "text", "other_database", "other_content"],
)
def test_corrupt_is_made_anew(damage, reads, tmp_path, caplog) -> None:
    path = tmp_path / "lidc.npz"
    lidc_scans(path)
    damage(path)
    with caplog.at_level(logging.WARNING):
        assert len(lidc_scans(path)) == 6
    assert "lidc.npz is damaged or of another version of the database; it is made again." in caplog.text
    lidc_scans(path)
    assert len(reads) == 2


def test_made_once_for_all(reads, tmp_path) -> None:
    with ThreadPoolExecutor(4) as pool:
        assert [len(scans) for scans in pool.map(lidc_scans, [tmp_path / "lidc.npz"] * 4)] == [6] * 4
    assert len(reads) == 1


def test_failure_leaves_nothing(reads, tmp_path, monkeypatch) -> None:
    def fail(file, **arrays):
        file.write(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(np, "savez_compressed", fail)
    with pytest.raises(OSError, match="no space left"):
        lidc_scans(tmp_path / "lidc.npz")
    assert [file.name for file in tmp_path.iterdir() if file.suffix != ".lock"] == []
