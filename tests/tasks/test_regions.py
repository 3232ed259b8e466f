# SPDX-License-Identifier: Apache-2.0
"""What is judged follows from the classes of a task, unless it is given."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from monai_stochseg.metrics import BRATS_REGIONS
from monai_stochseg.tasks import LIDC, BraTS, Cityscapes, KiTS, ProstateX, Task


def columns(task: Task) -> list[str]:
    """Of the Dice in an evaluation of single answers, without those of each rater."""
    names: Sequence[str] = task.answer_metrics(full=True)["dice"].metric.names
    return list(names)


@pytest.mark.parametrize("zones", [["PZ"], ["TZ", "PZ"], ["PZ", "TZ", "DPU", "AFS"]])
def test_columns_follow_the_classes(prostates, zones) -> None:
    task = ProstateX(prostates, zones=zones)
    assert columns(task) == [f"dice_{zone}" for zone in zones]
    assert {f"ece_{zone}" for zone in zones} <= task.answer_metrics(full=True).keys()
    assert list(task.metric("dice").metric.names) == list(task.regions)


@pytest.mark.parametrize("names", [["background", "lesion"], ["background", "a", "b", "c", "d", "e"]])
def test_regions_are_the_foreground_unless_given(names) -> None:
    class Own(Task):
        simulated = False

        def datalist(self, require_label=True):
            return []

        def split(self, datalist):
            return {}

        def load(self, with_label=True):
            return []

        def augmentation(self):
            return []

    assert columns(Own("folder", 2, ["ct"], names)) == [f"dice_{name}" for name in names[1:]]
    assert columns(Own("folder", 2, ["ct"], names, {"all": tuple(range(1, len(names)))})) == ["dice_all"]


def test_of_each_task_every_class_is_judged(brains, kidneys, prostates, streets, crops_folder) -> None:
    for task in (BraTS(brains), KiTS(kidneys), ProstateX(prostates), Cityscapes(streets), LIDC(crops_folder)):
        judged = {index for classes in task.regions.values() for index in classes}
        assert judged == set(range(1, task.num_classes)), task.name
        assert columns(task) == [f"dice_{name}" for name in task.regions]
    assert columns(BraTS(brains, regions=["ET"])) == ["dice_ET"]
    assert BraTS(brains).regions == dict(BRATS_REGIONS)
