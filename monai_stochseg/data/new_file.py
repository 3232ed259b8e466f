# SPDX-License-Identifier: Apache-2.0
"""Files that appear whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PREFIX = ".partial"


@contextmanager
def new_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """
    Give the name of a file to write, which replaces ``path`` at the end; its folder is made where it is absent.

    Other processes see either the earlier file or the complete new one. After an error, such as a full disk, or an
    interruption the earlier file is unchanged. The given name has the process in it, so that two processes never write
    to one file, and the suffixes of ``path``.

    Args:
        path: the file to make or to replace.

    Raises:
        OSError: when the file cannot be written; names it.

    Example::

        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     with new_file(Path(folder, "table.csv")) as temporary:
        ...         _ = temporary.write_text("case,dice")
        ...     Path(folder, "table.csv").read_text()
        'case,dice'
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{_PREFIX}.{os.getpid()}.{path.name}")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())  # some file systems tell only now that they are full
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:  # torch.save raises a RuntimeError that names no file
        raise OSError(f"{path} could not be written, and is as it was before ({error}).") from error
    finally:
        temporary.unlink(missing_ok=True)


def remove_partial(path: str | os.PathLike[str]) -> None:
    """
    Remove what killed processes left of :py:func:`new_file`. No other process may be writing the file.

    Args:
        path: the file that they were to replace.
    """
    path = Path(path)
    for left in path.parent.glob(f"{_PREFIX}.*"):
        if left.name.split(".", 3)[3:] == [path.name]:
            left.unlink(missing_ok=True)
