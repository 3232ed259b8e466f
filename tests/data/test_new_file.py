# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import resource
import signal

import pytest

from monai_stochseg.data import new_file, remove_partial


def test_the_folder_is_made_and_the_file_replaced(tmp_path):
    path = tmp_path / "a" / "b.tar.gz"
    for text in ("one", "two"):
        with new_file(path) as temporary:
            assert temporary.name.endswith(".b.tar.gz")  # writers look at the suffixes
            temporary.write_text(text)
        assert path.read_text() == text
    assert os.listdir(path.parent) == ["b.tar.gz"]


@pytest.mark.parametrize("error", [OSError("full"), RuntimeError("full"), KeyboardInterrupt(), ValueError("full")])
def test_an_error_leaves_the_earlier_file(tmp_path, error):
    path = tmp_path / "file"
    path.write_text("earlier")
    expected = OSError if isinstance(error, (OSError, RuntimeError)) else type(error)
    with pytest.raises(expected) as raised, new_file(path) as temporary:  # noqa: PT012 (a block is the test)
        temporary.write_text("half")
        raise error
    assert os.listdir(tmp_path) == ["file"]
    assert path.read_text() == "earlier"
    if expected is OSError:
        assert str(raised.value) == f"{path} could not be written, and is as it was before (full)."


def test_a_full_disk_is_an_error_that_names_the_file(tmp_path):
    """The system allows 1000 bytes a file here, where a disk allows no more."""
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, former[1]))  # Python ignores SIGXFSZ
    try:
        with pytest.raises(OSError, match=r"table\.csv could not be written"), new_file(tmp_path / "table.csv") as file:
            file.write_bytes(b"0" * 2000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, former)
    assert os.listdir(tmp_path) == []


def test_what_a_killed_process_left_is_removed(tmp_path):
    path = tmp_path / "file.pt"
    path.write_text("earlier")
    (tmp_path / ".partial.1.other.file.pt").touch()
    (tmp_path / ".partial.1.2.file.pt").touch()
    child = os.fork()
    if child == 0:
        with new_file(path) as temporary:
            temporary.write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert path.read_text() == "earlier"
    assert len(os.listdir(tmp_path)) == 4
    remove_partial(path)
    assert sorted(os.listdir(tmp_path)) == [".partial.1.2.file.pt", ".partial.1.other.file.pt", "file.pt"]
