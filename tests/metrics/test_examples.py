# SPDX-License-Identifier: Apache-2.0
"""Every public metric and function has an example, and all examples give what they show."""

from __future__ import annotations

import doctest
import inspect
import sys

import pytest

from monai_stochseg import metrics

BASES = {"DistanceMetric", "EntropyDecomposition", "ItemMetric", "PooledMetric"}
NAMES = [name for name in metrics.__all__ if callable(getattr(metrics, name)) and name not in BASES]


@pytest.mark.parametrize("name", NAMES)
def test_example(name: str, capsys: pytest.CaptureFixture) -> None:
    value = inspect.unwrap(getattr(metrics, name))
    scope = {**vars(metrics), **vars(sys.modules[value.__module__])}
    (test,) = doctest.DocTestFinder(recurse=False).find(value, name, globs=scope)
    assert test.examples
    assert not doctest.DocTestRunner().run(test).failed, capsys.readouterr().out
