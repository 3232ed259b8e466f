# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from monai_stochseg.data.folders import make_once, new_folder


def write(folder: Path, text: str = "new") -> None:
    with new_folder(folder) as made:
        (made / text).touch()


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_takes_the_place_of_another(tmp_path) -> None:
    write(tmp_path / "a", "old")
    write(tmp_path / "a")
    assert names(tmp_path / "a") == {"new"}
    assert names(tmp_path) == {"a"}


def test_an_interruption_leaves_the_earlier_one(tmp_path) -> None:
    write(tmp_path / "a", "old")

    def interrupt() -> None:
        with new_folder(tmp_path / "a") as made:
            (made / "half").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupt()
    assert names(tmp_path / "a") == {"old"}
    assert names(tmp_path) == {"a"}


def test_an_earlier_one_comes_back_when_it_cannot_be_replaced(tmp_path, monkeypatch) -> None:
    write(tmp_path / "a", "old")
    replace = Path.replace

    def refuse(source: Path, target: Path) -> Path:
        if source.name == "made":
            raise PermissionError("no")
        return replace(source, target)

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(PermissionError, match="no"):
        write(tmp_path / "a")
    assert names(tmp_path / "a") == {"old"}
    assert names(tmp_path) == {"a"}


def test_made_once_for_all_and_anew_with_a_reason(tmp_path, caplog) -> None:
    folder, made = tmp_path / "above" / "a", []

    def make(path: Path) -> None:
        made.append(path)
        write(path)

    def reason(path: Path) -> str | None:
        return None if path.exists() else ""

    with caplog.at_level(logging.WARNING), ThreadPoolExecutor(3) as pool:
        assert set(pool.map(lambda _: make_once(folder, reason, make), range(3))) == {str(folder)}
    assert made == [folder]
    assert not caplog.text
    make_once(folder, lambda path: "it is old.", make)
    assert made == [folder, folder]
    assert f"{folder} is made again: it is old." in caplog.text
