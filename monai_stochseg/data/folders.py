# SPDX-License-Identifier: Apache-2.0
"""Folders that are made on first use, and appear whole or not at all."""

from __future__ import annotations

import glob
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from filelock import FileLock, Timeout

logger = logging.getLogger(__name__)

_LOCK = "lock"
_RANDOM = "?" * 8  # what TemporaryDirectory puts behind its prefix


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """
    Give an empty folder to write to, which replaces ``folder`` at the end, whatever that held: check it before.

    Other processes see either the earlier folder or the complete new one. After an error or an interruption the earlier
    folder is unchanged. What a process left that was killed is swept by the next one.

    Args:
        folder: the folder to make or to replace; its parent must exist.
    """
    _sweep(folder)
    # the lock says that the process lives: the system releases it with the process, however that ends
    with (
        TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as temporary,
        FileLock(Path(temporary, _LOCK)),
    ):
        made, old = Path(temporary, "made"), Path(temporary, "old")
        made.mkdir()
        yield made
        try:
            if folder.exists():
                folder.replace(old)
            made.replace(folder)
        except BaseException:
            if old.exists() and not folder.exists():
                old.replace(folder)
            raise


def _sweep(folder: Path) -> None:
    """Remove what killed processes left beside a folder, and give an earlier folder back that one had moved away."""
    for lock in folder.parent.glob(f".{glob.escape(folder.name)}.{_RANDOM}/{_LOCK}"):
        try:
            with FileLock(lock, timeout=0):
                if (old := lock.with_name("old")).exists() and not folder.exists():
                    old.replace(folder)
        except Timeout:  # its process lives
            continue
        shutil.rmtree(lock.parent, ignore_errors=True)


def make_once(
    folder: str | os.PathLike, reason_to_make: Callable[[Path], str | None], make: Callable[[Path], None]
) -> str:
    """
    Make a folder unless it is there already. Of several processes that ask for it at once, such as the ranks of
    torchrun, one makes it while the others wait.

    A folder that can be used is never replaced, since a run may be reading it: where it is not the one that is asked
    for, ``reason_to_make`` raises.

    Args:
        folder: where to make it.
        reason_to_make: returns why it has to be made again, such as damage, an empty string where there is no folder
            yet, and None where the folder can be used.
        make: makes it, and replaces an earlier one.

    Returns:
        The path of the folder.
    """
    folder = Path(folder).expanduser().absolute()
    if reason_to_make(folder) is None:
        return str(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{folder.name}.lock")):
        reason = reason_to_make(folder)
        if reason is None:  # another process has made it meanwhile
            return str(folder)
        if reason:
            logger.warning("%s is made again: %s", folder, reason)
        make(folder)
    return str(folder)


def other_arguments(folder: Path, found: object, asked: object) -> FileExistsError:
    """The error to raise for a folder that was simulated with other arguments than those that are asked for."""
    return FileExistsError(
        f"{folder} was simulated with {found}, not {asked}, and another run may be reading it; name another folder, or "
        "remove this one."
    )
