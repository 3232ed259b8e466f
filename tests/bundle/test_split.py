# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from monai_stochseg.bundle import resumed_split


@pytest.mark.parametrize("resume", [False, "False", None])
def test_a_training_that_begins_draws_its_split(tmp_path, resume):
    (tmp_path / "split.json").touch()
    assert resumed_split(tmp_path, resume) is None


@pytest.mark.parametrize("resume", [True, "True"])
@pytest.mark.parametrize(
    ("there", "is_read"),
    [((), False), (("split.json",), True), (("model_last.pt",), True), (("model_last.pt", "split.json"), True)],
)
def test_a_queue_may_ask_to_resume_what_has_not_begun(tmp_path, resume, there, is_read):
    """A split without a state is of a training that was killed early; a state without a split is an error."""
    for name in there:
        (tmp_path / name).touch()
    assert resumed_split(tmp_path, resume) == (str(tmp_path / "split.json") if is_read else None)


def test_the_split_of_another_run_lies_beside_its_state(tmp_path):
    path = tmp_path / "other" / "model_last.pt"
    assert resumed_split(tmp_path, str(path)) == str(tmp_path / "other" / "split.json")
