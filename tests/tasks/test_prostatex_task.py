# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from monai_stochseg.data import CaseError
from monai_stochseg.tasks import ProstateX

HALVES = (0.5, 0.25, 0.25)


def test_cases_by_part(prostates) -> None:
    task = ProstateX(prostates, split_fractions=HALVES)
    assert [len(task.cases(part)) for part in ("train", "validation", "test", "all")] == [2, 1, 1, 4]
    with pytest.raises(CaseError, match=r"part must be one of .*, got 'tests'"):
        task.cases("tests")


def test_zones_that_are_not_asked_for_are_background(prostates) -> None:
    every, two = ProstateX(prostates, roi_size=(16, 32, 32)), ProstateX(prostates, ["TZ", "PZ"], (16, 32, 32))
    assert every.class_names == ("background", "PZ", "TZ", "DPU", "AFS")
    assert two.class_names == ("background", "TZ", "PZ")
    assert two.signature != every.signature
    for task, classes in ((every, {0, 1, 2, 3, 4}), (two, {0, 1, 2})):
        labels = [case["label"] for case in task.dataset("all", task.evaluation())]
        assert set().union(*(label.unique().tolist() for label in labels)) == classes
    one, other = (task.dataset("all", task.evaluation())[0]["label"] for task in (every, two))
    assert ((one == 1) == (other == 2)).all()
    assert ((one == 2) == (other == 1)).all()


def test_the_image_has_zero_mean_and_unit_variance(prostates) -> None:
    task = ProstateX(prostates, roi_size=(16, 32, 32))
    image = task.dataset("all", task.evaluation())[0]["image"]
    assert image.mean().abs() < 1e-4
    assert (image.std() - 1).abs() < 1e-3
