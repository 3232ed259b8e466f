# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import time

import pytest
import torch.distributed as dist

from monai_stochseg.bundle import heartbeat
from monai_stochseg.bundle.heartbeat import Heartbeat, is_of_communication

GLOO = RuntimeError("[gloo/transport/tcp/pair.cc:537] Connection closed by peer [10.0.0.2]:8094")


@pytest.fixture
def pair(monkeypatch) -> list[Heartbeat]:
    """The heartbeats of two processes, which do not beat by themselves."""
    monkeypatch.setattr(heartbeat, "_SUSPICIOUS", 0.2)
    monkeypatch.setattr(heartbeat, "BEAT", 0.1)
    store = dist.HashStore()
    return [Heartbeat(rank, 2, store) for rank in range(2)]


def test_a_process_that_is_silent_is_named(pair):
    line = pair[0].explain(GLOO)
    assert line.startswith(f"This run ends, for rank 1, process {os.getpid()} on ")
    assert "has given no sign of life for 0 s: it was killed" in line


def test_a_process_that_failed_is_named_with_its_error(pair):
    assert pair[1].explain(ValueError("patient 7: NaN")) is None
    assert "failed by ValueError: patient 7: NaN. --resume True" in pair[0].explain(GLOO)


def test_a_process_that_was_told_to_stop_is_no_failure_until_it_is_missed(pair):
    pair[1]._leave()
    assert pair[0]._gone(0) == {}
    assert "was told to stop" in pair[0].explain(GLOO)


def test_one_that_has_ended_as_it_should_is_not_missed(pair):
    pair[1].stop()
    pair[0]._gone(0)
    time.sleep(0.01)
    assert pair[0]._gone(0) == {}
    assert pair[0].explain(GLOO) is None


def test_what_failed_for_another_one_is_no_cause(pair):
    three = [*pair, Heartbeat(2, 3, pair[0].store)]
    three[0].processes = 3
    three[2].explain(GLOO)
    assert list(three[0]._gone(0)) == []


def test_the_end_of_the_store_is_that_of_the_first_machine(pair, monkeypatch):
    def closed(keys):
        raise dist.DistNetworkError("Broken pipe")

    monkeypatch.setattr(pair[1], "store", type("Store", (), {"multi_get": staticmethod(closed)}))
    assert pair[1].explain(GLOO).startswith("This run ends, for rank 0 is gone: the store on its machine")


def test_of_communication():
    assert is_of_communication(GLOO)
    assert is_of_communication(dist.DistBackendError("timed out"))
    wrapped = TypeError("unable to sync")
    wrapped.__cause__ = GLOO
    assert is_of_communication(wrapped)
    assert not is_of_communication(ValueError("gloomy"))
    assert not is_of_communication(RuntimeError("shapes do not fit"))
