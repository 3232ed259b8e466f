# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn


@pytest.fixture(scope="module")
def script() -> ModuleType:
    path = Path(__file__).resolve().parents[2] / "benchmarks" / "scale_arithmetic.py"
    spec = importlib.util.spec_from_file_location("scale_arithmetic", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


def test_what_is_kept_for_the_backward_pass(script) -> None:
    """The square keeps its input, once, and the weights are no activations."""
    network, x = nn.Linear(4, 8, bias=False), torch.randn(2, 4)
    with script.Kept(network, x) as kept:
        y = network(x)
        (y * y).sum()
    assert kept.bytes == 2 * 8 * 4


def test_a_step_on_more_gpus_is_no_smaller_than_the_papers(script) -> None:
    cost = script.Cost(1000, 10, 5, 2, 8, batch=12, rate=0.001, epochs=5, images=12000)
    assert script.plan(cost, 1) == script.Plan(12, 12, 0.001, 1000)
    assert script.plan(cost, 8) == script.Plan(2, 16, pytest.approx(0.001 * 16 / 12), 750)
    assert script.plan(cost, 64) == script.Plan(1, 64, pytest.approx(0.001 * 64 / 12), 188)
    assert [cost.gradients(gpus) for gpus in (1, 8)] == [0, 2 * 7 / 8 * 4 * 1000]
    assert cost.a_gpu(2) == 16 * 1000 + 2 * 15


def test_the_document_has_what_the_script_says(script, repository) -> None:
    costs = {"ssn_lidc": script.measure("ssn_lidc")}
    assert costs["ssn_lidc"].samples == 20 * 2 * 128 * 128 * 4
    text = (repository / "docs" / "scale.md").read_text()
    for row in (*script.memory_table(costs)[2:], *script.scale_table(costs)[2:]):
        assert row in text
