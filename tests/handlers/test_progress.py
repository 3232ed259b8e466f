# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io
import sys

import ignite.distributed as idist
import pytest
from ignite.engine import Events
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


class _Line:
    """A handler that writes a line at the end of each epoch, or stops the training there."""

    def __init__(self, stream: io.StringIO, event: Events, error: BaseException | None = None) -> None:
        self.stream, self.event, self.error = stream, event, error

    def attach(self, engine):
        engine.add_event_handler(self.event, self._write)

    def _write(self):
        if self.error is not None:
            raise self.error
        self.stream.write("LINE\n")


def test_the_bar_is_closed_before_the_next_line(monkeypatch):
    """Also of a handler that was attached before the bar: its line begins where the bar's was emptied."""
    stream = _Stream(terminal=True)
    monkeypatch.setattr(sys, "stderr", stream)
    bar = TrainingProgress(file=stream, mininterval=0)
    make_trainer([_Line(stream, Events.EPOCH_COMPLETED), bar], max_epochs=2).run()
    *before, after = stream.getvalue().split("LINE\n")
    assert len(before) == 2
    assert all("training" in text and text.endswith(" \r") for text in before)
    assert after == ""


def test_the_bar_is_closed_when_the_training_stops(monkeypatch):
    stream = _Stream(terminal=True)
    monkeypatch.setattr(sys, "stderr", stream)
    stop = _Line(stream, Events.ITERATION_COMPLETED(once=2), ValueError("stopped"))
    with pytest.raises(ValueError, match="stopped"):
        make_trainer([TrainingProgress(file=stream, mininterval=0), stop], max_epochs=2).run()
    assert stream.getvalue().endswith(" \r")
