# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch

from monai_stochseg.data import CaseError
from monai_stochseg.tasks import KiTS

HALVES = (0.5, 0.25, 0.25)


def test_cases_by_part(kidneys) -> None:
    task = KiTS(kidneys, split_fractions=HALVES)
    assert [len(task.cases(part)) for part in ("train", "validation", "test", "all")] == [2, 1, 1, 4]
    with pytest.raises(CaseError, match=r"part must be one of .*, got 'tests'"):
        task.cases("tests")


def test_what_networks_are_built_from(kidneys) -> None:
    task = KiTS(kidneys)
    assert (task.in_channels, task.num_classes, task.num_raters, task.ignore_index) == (1, 3, 1, None)
    assert task.signature["class_names"] == ["background", "kidney", "tumour"]
    assert task.regions == {"kidney": (1,), "tumour": (2,), "composite": (1, 2)}
    assert task.simulated


def test_the_window_becomes_0_to_1_and_the_centre_has_one_size(kidneys) -> None:
    task = KiTS(kidneys, roi_size=(16, 32, 32), split_fractions=HALVES)
    found = set()
    for case in task.dataset("all", task.evaluation()):
        assert case["image"].shape == case["label"].shape == (1, 16, 32, 32)
        assert 0 <= case["image"].min() <= case["image"].max() <= 1
        found |= set(case["label"].unique().tolist())
    assert found == {0, 1, 2}


def test_patches_have_no_void_voxels(kidneys) -> None:
    """Only BraTS's volumes have a mask."""
    task = KiTS(kidneys, roi_size=(16, 16, 16), patch_size=(8, 16, 16), patches_per_image=2, split_fractions=HALVES)
    assert (task.mask_key, task.ignore_index) == (None, None)
    assert task.inferer() is not None
    for patch in task.dataset("train", task.training())[0]:
        assert patch["image"].shape == patch["label"].shape == (1, 8, 16, 16)
        assert set(patch["label"].unique().tolist()) <= {0, 1, 2}


def test_a_target_of_the_method_comes_last(kidneys) -> None:
    task = KiTS(kidneys, roi_size=(16, 32, 32), split_fractions=HALVES)
    seen = []

    def target(case: dict) -> dict:
        seen.append(case["label"].shape)
        return {**case, "label": torch.zeros(3)}

    for given in (target, [target]):
        case = task.dataset("train", task.training([], given))[0]
        assert case["label"].shape == (3,)
    assert set(seen) == {(1, 16, 32, 32)}
