# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import importlib.util

import pytest
import torch


@pytest.mark.parametrize(("bundle", "number"), [("ssn_brats", "SIGKILL"), ("car_lidc", "SIGTERM")])
def test_a_training_that_is_killed_anywhere_ends_as_one_that_is_not(repository, tmp_path, bundle, number) -> None:
    """Few of the many of ``benchmarks/kills.py``."""
    spec = importlib.util.spec_from_file_location("kills", repository / "benchmarks" / "kills.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # a fork does not have the threads of its parent
    try:
        counts = script.kills(bundle, tmp_path, number=2, signals=(number,))
    finally:
        torch.set_num_threads(threads)
    assert counts[number]["equal"] == 2, counts
