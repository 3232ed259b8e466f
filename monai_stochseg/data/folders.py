# SPDX-License-Identifier: Apache-2.0
"""Folders that are made on first use, and appear whole or not at all."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from filelock import FileLock

logger = logging.getLogger(__name__)


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """
    Give an empty folder to write to, which replaces ``folder`` at the end, whatever that held: check it before.

    Other processes see either the earlier folder or the complete new one. After an error or an interruption the earlier
    folder is unchanged.

    Args:
        folder: the folder to make or to replace; its parent must exist.
    """
    with TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as temporary:
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


def make_once(
    folder: str | os.PathLike, reason_to_make: Callable[[Path], str | None], make: Callable[[Path], None]
) -> str:
    """
    Make a folder unless it is there already. Of several processes that ask for it at once, such as the ranks of
    torchrun, one makes it while the others wait.

    Args:
        folder: where to make it.
        reason_to_make: returns why it has to be made again, an empty string where there is no folder yet, and None
            where the folder can be used.
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
