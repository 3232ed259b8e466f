# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock
from mlflow.exceptions import MlflowException
from monai.handlers import MLFlowHandler
from monai.utils import path_to_sqlite_uri
from sqlalchemy.exc import SQLAlchemyError

from monai_stochseg.data import new_file, remove_partial

__all__ = ["make_database", "naming_database", "without_environment"]

# Two lines for each new database, in a format that no other line of a training has.
logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)

_JOURNALS = ("", "-journal", "-wal", "-shm")


def make_database(path: Path) -> None:
    """
    Make MLflow's SQLite database, unless it is there.

    MLflow makes its tables one by one in place, so that a process which is killed meanwhile, a full disk, or two
    processes at once would leave a database that no later run can open. Here the file appears whole or not at all, and
    one process makes it while others wait.

    Args:
        path: the file; its folder is made where it is absent. An empty file counts as absent.

    Raises:
        OSError: when it cannot be made; names the file.
    """
    if _is_there(path):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock")):
        if _is_there(path):  # another process has made it meanwhile
            return
        for journal in _JOURNALS:
            remove_partial(path.with_name(path.name + journal))
        with without_environment(), new_file(path) as temporary, _as_os_error():
            MLFlowHandler(tracking_uri=path_to_sqlite_uri(temporary)).close()


def _is_there(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0


@contextmanager
def _as_os_error() -> Iterator[None]:
    try:
        yield
    except (MlflowException, SQLAlchemyError) as error:
        raise OSError(_first_line(error)) from error


@contextmanager
def naming_database(place: str | os.PathLike[str]) -> Iterator[None]:
    """
    Let an error of MLflow name the database.

    Args:
        place: the file or the URI.

    Raises:
        RuntimeError: for an error of MLflow, SQLAlchemy or the system; says where, and what can be done.
    """
    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError) as error:
        raise RuntimeError(
            f"MLflow cannot use {place} ({_first_line(error)}): make room for it or move it away, or give another "
            "output_dir or tracking_uri."
        ) from error


@contextmanager
def without_environment() -> Iterator[None]:
    """MONAI prefers the environment's server to its argument; here the argument comes first."""
    uri = os.environ.pop("MLFLOW_TRACKING_URI", None)
    try:
        yield
    finally:
        if uri is not None:
            os.environ["MLFLOW_TRACKING_URI"] = uri


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]
