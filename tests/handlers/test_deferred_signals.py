# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import signal
import threading

import pytest

from monai_stochseg.handlers.deferred_signals import deferred_signals


@pytest.fixture
def received():
    """The signals that came through to the handlers from before the block."""
    numbers = []
    former = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in former:
        signal.signal(number, lambda n, frame: numbers.append(n))
    yield numbers
    for number, handler in former.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_for_the_end_of_the_block(received, number):
    with deferred_signals():
        signal.raise_signal(number)
        signal.raise_signal(number)
        assert received == []
    assert received == [number]
    signal.raise_signal(number)
    assert received == [number] * 2


def test_the_third_does_not_wait(received):
    with deferred_signals():
        for _ in range(3):
            signal.raise_signal(signal.SIGINT)
        assert received == [signal.SIGINT]


def test_nested_as_decorator_and_after_an_error(received):
    @deferred_signals()
    def inner():
        signal.raise_signal(signal.SIGTERM)
        return 1

    with deferred_signals():
        assert inner() == 1
        assert received == []
    assert received == [signal.SIGTERM]
    with pytest.raises(RuntimeError), deferred_signals():
        raise RuntimeError
    signal.raise_signal(signal.SIGTERM)
    assert received == [signal.SIGTERM] * 2


def test_ctrl_c_is_raised_after_the_block():
    done = []
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012 (where it is raised is the test)
        with deferred_signals():
            signal.raise_signal(signal.SIGINT)
            done.append(True)
        pytest.fail("not reached")
    assert done


def test_does_nothing_in_a_thread():
    during = []

    @deferred_signals()
    def look():
        during.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert during == [signal.getsignal(signal.SIGINT)]
