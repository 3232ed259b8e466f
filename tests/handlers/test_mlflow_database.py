# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import multiprocessing
import os
import resource
import shutil
import signal
import sqlite3
from functools import partial
from itertools import count

import pytest
import sqlalchemy
from mlflow import MlflowClient
from monai.utils import path_to_sqlite_uri

from monai_stochseg.handlers import MLFlowTracker
from monai_stochseg.handlers.mlflow_database import make_database


def _make_and_be_killed(path) -> None:
    """At the eighth table that MLflow makes."""
    calls = count(1)

    @sqlalchemy.event.listens_for(sqlalchemy.engine.Engine, "before_cursor_execute")
    def kill(connection, cursor, statement, *args):
        if "CREATE TABLE" in statement and next(calls) == 8:
            os.kill(os.getpid(), signal.SIGKILL)

    make_database(path)


def _in_children(*functions) -> list[int]:
    """The exit codes of processes that run these at once."""
    context = multiprocessing.get_context("fork")  # another would import torch anew
    children = [context.Process(target=function) for function in functions]
    for child in children:
        child.start()
    for child in children:
        child.join()
    return [child.exitcode for child in children]


def _experiments(path) -> list[str]:
    return [experiment.name for experiment in MlflowClient(path_to_sqlite_uri(path)).search_experiments()]


def test_a_process_that_is_killed_meanwhile_leaves_nothing_in_the_way(tmp_path):
    path = tmp_path / "new" / "mlruns.db"
    assert _in_children(partial(_make_and_be_killed, path)) == [-signal.SIGKILL]
    assert [name for name in os.listdir(path.parent) if name.startswith(".partial")]
    assert not path.exists()
    make_database(path)
    assert _experiments(path) == ["Default"]
    assert not [name for name in os.listdir(path.parent) if name.startswith(".partial")]


def test_making_one_prints_nothing(tmp_path, capfd):
    make_database(tmp_path / "mlruns.db")
    assert capfd.readouterr() == ("", "")


def test_two_processes_at_once_make_one(tmp_path):
    assert _in_children(*[partial(make_database, tmp_path / "mlruns.db")] * 2) == [0, 0]
    assert _experiments(tmp_path / "mlruns.db") == ["Default"]


def test_a_full_disk_names_the_file_and_leaves_none(tmp_path):
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, former[1]))
    try:
        with pytest.raises(OSError, match=r"mlruns\.db could not be written"):
            make_database(tmp_path / "mlruns.db")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, former)
    assert os.listdir(tmp_path) == [".mlruns.db.lock"]


def test_one_that_is_there_stays_and_an_empty_file_is_none(database, tmp_path):
    shutil.copy(database / "mlruns.db", tmp_path)
    before = (tmp_path / "mlruns.db").read_bytes()
    make_database(tmp_path / "mlruns.db")
    assert (tmp_path / "mlruns.db").read_bytes() == before
    (tmp_path / "empty.db").touch()
    make_database(tmp_path / "empty.db")
    assert _experiments(tmp_path / "empty.db") == ["Default"]


def test_a_database_that_cannot_be_used_is_named(tmp_path):
    with sqlite3.connect(tmp_path / "mlruns.db") as connection:  # as an earlier version left it
        connection.execute("CREATE TABLE experiments (experiment_id INTEGER)")
    with pytest.raises(RuntimeError, match=r"MLflow cannot use .*/mlruns\.db \(.*\): make room for it or move it away"):
        MLFlowTracker(tmp_path)
    (tmp_path / "mlruns.db").write_bytes(b"no database" * 1000)
    with pytest.raises(RuntimeError, match=r"MLflow cannot use .*/mlruns\.db \(.*not a database"):
        MLFlowTracker(tmp_path)


def test_a_server_of_the_environment_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", path_to_sqlite_uri(tmp_path / "other.db"))
    make_database(tmp_path / "mlruns.db")
    assert not (tmp_path / "other.db").exists()
    assert os.environ["MLFLOW_TRACKING_URI"].endswith("other.db")
