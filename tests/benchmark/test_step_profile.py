# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest


@pytest.fixture
def training_step(repository, monkeypatch):
    monkeypatch.syspath_prepend(str(repository / "benchmarks"))
    import training_step

    return training_step


def event(name: str, start: int, end: int, sequence_nr: int = -1) -> SimpleNamespace:
    """As of PyTorch's profiler, in microseconds."""
    length = SimpleNamespace(start=start, end=end, elapsed_us=lambda: end - start)
    return SimpleNamespace(name=name, time_range=length, sequence_nr=sequence_nr)


def test_backward_functions_belong_to_what_they_undo(training_step) -> None:
    evaluate = "autograd::engine::evaluate_function: "
    events = [
        event("step", 0, 10_000),
        event("network", 0, 3_000),
        event("network", 500, 900),  # within the first
        event("aten::convolution", 100, 2_000, 1),
        event("aten::relu", 2_000, 2_900, 2),
        event("aten::exp", 3_000, 5_000, 3),  # the loss
        event(evaluate + "ExpBackward0", 5_000, 6_000, 3),
        event(evaluate + "ReluBackward0", 6_000, 6_500, 2),
        event("aten::mul", 6_100, 6_200, 4),  # a gradient that is differentiated
        event(evaluate + "MulBackward0", 6_500, 7_000, 4),
        event(evaluate + "ConvolutionBackward0", 7_000, 8_500, 1),
        event("Optimizer.step#Adam.step", 8_500, 9_000),
    ]
    parts = training_step.parts_of(events, steps=2)
    assert parts == (5.0, 1.5, 1.25, 0.25)
    assert parts.other_share == pytest.approx(1 - 2.75 / 5)


@pytest.mark.slow
def test_table_of_a_bundle(repository) -> None:
    words = [
        sys.executable,
        str(repository / "benchmarks" / "training_step.py"),
        "--bundles",
        "car_lidc",
        "--steps",
        "1",
    ]
    done = subprocess.run(words, capture_output=True, text=True, timeout=600, cwd=repository)
    assert done.returncode == 0, done.stderr
    step, forward, backward, optimizer, other = done.stdout.splitlines()[-1].split("|")[2:-1]
    assert 0 < float(forward) + float(backward) + float(optimizer) <= float(step)
    assert 0 <= float(other.rstrip(" %")) < 50
