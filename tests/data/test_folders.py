# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import logging
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from monai_stochseg.data import folders
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


KILLED = """
import importlib.util, os, signal, sys
from pathlib import Path
spec = importlib.util.spec_from_file_location("folders", sys.argv[3])  # without the package, which takes seconds
folders = importlib.util.module_from_spec(spec)
spec.loader.exec_module(folders)
folder, moved = Path(sys.argv[1]), sys.argv[2] == "moved"
with folders.new_folder(folder) as made:
    (made / "half").touch()
    if moved:
        folder.replace(made.with_name("old"))
    print("here", flush=True)
    if sys.argv[2] == "alive":
        sys.stdin.read()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def other_process(folder: Path, how: str) -> subprocess.Popen:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(folder), how, folders.__file__], **pipes)
    assert process.stdout is not None
    assert process.stdout.readline() == "here\n"
    return process


def test_what_a_killed_process_left_is_swept(tmp_path) -> None:
    """And what a living one makes is left alone, as are folders of similar names."""
    write(tmp_path / "a", "old")
    with other_process(tmp_path / "a", "killed") as killed:
        killed.wait()
    (left,) = names(tmp_path) - {"a"}
    others = {".a.v2.12345678", ".a.12345678", ".b.12345678"}
    for other in others:
        (tmp_path / other).mkdir()
    (tmp_path / ".a.v2.12345678" / "lock").touch()
    (tmp_path / ".b.12345678" / "lock").touch()
    with other_process(tmp_path / "a", "alive") as alive:
        assert names(tmp_path) >= {"a", *others} - {left}
        (made,) = names(tmp_path) - {"a", *others}
        assert made != left
        write(tmp_path / "a")
        assert names(tmp_path / made / "made") == {"half"}
        alive.communicate("")
    write(tmp_path / "a")
    assert names(tmp_path) == {"a", *others}


def test_an_earlier_one_comes_back_from_a_killed_process(tmp_path) -> None:
    write(tmp_path / "a", "old")
    with other_process(tmp_path / "a", "moved") as killed:
        killed.wait()
    assert not (tmp_path / "a").exists()
    with pytest.raises(KeyboardInterrupt), new_folder(tmp_path / "a"):
        raise KeyboardInterrupt
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
