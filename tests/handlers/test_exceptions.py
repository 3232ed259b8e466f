# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import signal
import threading

import pytest
from ignite.engine import Engine, Events
from monai.handlers import StatsHandler
from tiny_training import make_trainer

from monai_stochseg.handlers import NonFiniteError
from monai_stochseg.handlers.add_last import add_last
from monai_stochseg.handlers.exceptions import on_exception, stop_within


def _failing_engine(error: BaseException, where: Events = Events.ITERATION_STARTED) -> Engine:
    engine = Engine(lambda engine, batch: None)

    @engine.on(where)
    def fail():
        raise error

    return engine


@pytest.mark.parametrize(
    "where", [Events.STARTED, Events.EPOCH_STARTED, Events.ITERATION_STARTED, Events.EPOCH_COMPLETED, Events.COMPLETED]
)
@pytest.mark.parametrize("error", [RuntimeError("out of memory"), KeyboardInterrupt(), NonFiniteError(), SystemExit(3)])
def test_actions_run_once_in_order_and_the_exception_goes_on(error, where):
    engine = _failing_engine(error, where)
    calls = []
    on_exception(engine, lambda engine, e: calls.append(("first", e)))
    on_exception(engine, lambda engine, e: calls.append(("second", e)))
    with pytest.raises(type(error)):
        engine.run([0, 1])
    assert calls == [("first", error), ("second", error)]


def test_each_run_that_fails_is_handled():
    def fail(engine, batch):
        raise RuntimeError(f"failure {len(calls)}")

    engine = Engine(fail)
    calls = []
    on_exception(engine, lambda engine, e: calls.append(str(e)))
    for i in range(2):
        with pytest.raises(RuntimeError, match=f"failure {i}"):
            engine.run([0])
        engine.state.max_epochs = None  # so that ignite starts again
    assert calls == ["failure 0", "failure 1"]


@pytest.mark.parametrize("first", [True, False])
def test_with_stats_handler(first):
    calls = []

    class Ours:
        def attach(self, engine):
            on_exception(engine, lambda engine, e: calls.append(e))

    def fail(*_):
        raise RuntimeError("out of memory")

    stats = StatsHandler(iteration_log=False)
    trainer = make_trainer([Ours(), stats, Ours()] if first else [Ours(), Ours(), stats], loss=fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        trainer.run()
    assert len(calls) == 2


def test_a_failing_action_hides_neither_the_exception_nor_the_next_action(caplog):
    engine = _failing_engine(RuntimeError("out of memory"))
    calls = []

    def disk_full(engine, exception):
        raise OSError("disk full")

    on_exception(engine, disk_full)
    on_exception(engine, lambda engine, e: calls.append(e))
    with pytest.raises(RuntimeError, match="out of memory"):
        engine.run([0])
    assert len(calls) == 1
    assert "disk full" in caplog.text


def test_sigterm_is_an_exception_and_the_former_handler_is_restored():
    received, calls = [], []
    former = signal.signal(signal.SIGTERM, lambda *_: received.append("former"))
    try:
        engine = Engine(lambda engine, batch: signal.raise_signal(signal.SIGTERM))

        def action(engine, exception):
            signal.raise_signal(signal.SIGTERM)  # a launcher's second one does not cut the action short
            calls.append(exception.code)

        on_exception(engine, action)
        with pytest.raises(SystemExit, match="143"):
            engine.run([0])
        assert calls == [143]
        assert not received
        signal.raise_signal(signal.SIGTERM)
        assert received == ["former"]
    finally:
        signal.signal(signal.SIGTERM, former)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_sigterm_lost_in_a_finaliser_stops_the_run():
    class Finalised:
        def __del__(self):
            signal.raise_signal(signal.SIGTERM)

    engine = Engine(lambda engine, batch: Finalised() and None)
    on_exception(engine, lambda engine, e: None)
    with pytest.raises(SystemExit, match="143"):
        engine.run(range(5))
    assert engine.state.iteration == 1


def test_sigterm_is_left_alone_after_a_run_and_in_a_thread():
    former = signal.getsignal(signal.SIGTERM)
    during = []
    engine = Engine(lambda engine, batch: during.append(signal.getsignal(signal.SIGTERM)))
    on_exception(engine, lambda engine, e: None)
    engine.run([0])
    assert during[-1] is not former
    assert signal.getsignal(signal.SIGTERM) is former
    engine.state.max_epochs = None
    thread = threading.Thread(target=engine.run, args=([0],))
    thread.start()
    thread.join()
    assert during[-1] is former


def test_add_last_comes_after_handlers_attached_later():
    engine = Engine(lambda engine, batch: None)
    order = []

    def last():
        order.append("last")

    add_last(engine, Events.EPOCH_COMPLETED, last)
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda: order.append("other"))
    for _ in range(2):
        engine.state.max_epochs = None
        engine.run([0])
    assert order == ["other", "last"] * 2


@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
@pytest.mark.parametrize(
    ("where", "iterations"),
    [
        (Events.EPOCH_STARTED, 0),  # stops before the first step, when its batch is there
        (Events.ITERATION_STARTED, 1),
        (Events.ITERATION_COMPLETED(once=2), 2),
        (Events.EPOCH_COMPLETED, 3),
        (Events.COMPLETED, 3),  # what follows the run must not begin
    ],
)
def test_a_signal_waits_for_a_point_where_the_run_can_stop(number, error, where, iterations):
    done = []
    engine = Engine(lambda engine, batch: done.append(batch))
    on_exception(engine, lambda engine, e: done.append(type(e)))
    later = []
    engine.add_event_handler(where, lambda: signal.raise_signal(number))
    engine.add_event_handler(where, lambda: later.append("of the same event"))
    with pytest.raises(error):
        engine.run(range(3))
    assert done == [*range(iterations), error]
    assert later == ["of the same event"]


def test_a_signal_that_is_ignored_stays_ignored():
    """As under nohup, and in a benchmark's job, whose parent has Ctrl-C."""
    former = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        engine = Engine(lambda engine, batch: signal.raise_signal(signal.SIGINT))
        on_exception(engine, lambda engine, e: None)
        assert engine.run(range(3)).iteration == 3
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, former)


def test_stop_within_another_engine():
    inner, outer = (Engine(lambda engine, batch: seen.append(batch)) for _ in range(2))
    seen = []
    on_exception(outer, lambda engine, e: None)
    stop_within(outer, inner)
    outer.add_event_handler(Events.EPOCH_COMPLETED, lambda: inner.run("abc"))
    inner.add_event_handler(Events.ITERATION_COMPLETED(once=1), lambda: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(SystemExit):
        outer.run([0])
    assert seen == [0, "a"]
