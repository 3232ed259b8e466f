# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io
import sys

import ignite.distributed as idist
import pytest
from tiny_training import make_trainer

from monai_stochseg.handlers import TrainingProgress


class _Stream(io.StringIO):
    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


def printed(monkeypatch, terminal: bool) -> str:
    stream = _Stream(terminal)
    monkeypatch.setattr(sys, "stderr", stream)
    trainer = make_trainer([TrainingProgress(file=stream, mininterval=0)], max_epochs=2)
    trainer.run()
    return stream.getvalue()


def test_shows_epoch_and_loss_on_a_terminal(monkeypatch):
    text = printed(monkeypatch, terminal=True)
    assert "training [1/2]" in text
    assert "loss=" in text


@pytest.mark.parametrize(("terminal", "rank"), [(False, 0), (True, 1)])
def test_is_silent_elsewhere(monkeypatch, terminal, rank):
    monkeypatch.setattr(idist, "get_rank", lambda: rank)
    assert printed(monkeypatch, terminal) == ""
