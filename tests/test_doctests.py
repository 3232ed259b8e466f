# SPDX-License-Identifier: Apache-2.0
"""The examples in the docstrings run, and each loss has one."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest
from torch.nn.modules.loss import _Loss

from monai_stochseg import distributions, losses, metrics
from monai_stochseg.networks import export

MODULES = [
    info.name
    for room in (losses, metrics, distributions, export)
    for info in pkgutil.iter_modules(room.__path__, f"{room.__name__}.")
]
LOSSES = [
    name
    for name in losses.__all__
    if isinstance(getattr(losses, name), type) and issubclass(getattr(losses, name), _Loss)
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name):
    result = doctest.testmod(importlib.import_module(name))
    assert result.failed == 0, f"{result.failed} of {result.attempted} lines of examples fail"


@pytest.mark.parametrize("name", LOSSES)
def test_each_loss_has_an_example(name):
    assert doctest.DocTestFinder(recurse=False).find(getattr(losses, name), name)[0].examples
