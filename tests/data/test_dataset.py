# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from threading import Event
from threading import enumerate as enumerate_threads

import pytest
import torch
from monai.data import DataLoader
from monai.transforms import Compose, Lambda, RandomizableTransform

from monai_stochseg.data import CaseDataset, CaseError


def refuse(case: int) -> int:
    if case == 2:
        raise CaseError("patient 2: wrong")
    return case


class Random(RandomizableTransform):
    def __call__(self, data: int) -> int:
        return refuse(data)


def fail(case: int) -> int:
    raise KeyError("mine")


@pytest.mark.parametrize("cache_rate", [0.0, 1.0])
@pytest.mark.parametrize("transform", [Lambda(refuse), Random(), Compose([Compose(Lambda(refuse))])])
def test_case_error_leaves_as_itself(cache_rate, transform) -> None:
    with pytest.raises(CaseError, match=r"^patient 2: wrong$") as caught:
        list(CaseDataset([1, 2], transform, cache_rate=cache_rate, progress=False))
    assert caught.value.__suppress_context__


def test_case_error_crosses_the_loader() -> None:
    with pytest.raises(CaseError, match="patient 2: wrong"):
        list(DataLoader(CaseDataset([1, 2], Lambda(refuse), cache_rate=0.0), num_workers=1))


def test_other_errors_stay() -> None:
    with pytest.raises(RuntimeError, match="applying transform"):
        CaseDataset([1], Lambda(fail), progress=False)


def test_refuses_empty_list() -> None:
    with pytest.raises(CaseError, match="data is empty"):
        CaseDataset([], Lambda(refuse))


def test_good_cases_pass() -> None:
    assert list(CaseDataset([0, 1], Lambda(refuse), progress=False)) == [0, 1]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_no_thread_outlives_an_error(num_workers) -> None:
    """One that is still in torch when Python exits aborts the process: terminate called without an active exception."""
    failed, others = Event(), []

    def load(case: int) -> int:
        if case == 1:
            failed.set()
            raise CaseError("patient 1: wrong")
        assert failed.wait(10)
        for _ in range(20):
            torch.rand(300, 300).sort()
        others.append(case)
        return case

    before = set(enumerate_threads())
    with pytest.raises(CaseError, match="patient 1: wrong"):
        CaseDataset(list(range(1, 82)), Lambda(load), num_workers=num_workers, progress=False)
    assert set(enumerate_threads()) <= before
    assert len(others) < 80, "no further case is begun after an error"  # but while the error is on its way


def test_the_cache_keeps_the_order_of_the_cases() -> None:
    dataset = CaseDataset([3, 1, 0], Lambda(refuse), cache_num=2, num_workers=2, progress=False)
    assert dataset._cache == [3, 1]
    assert list(dataset) == [3, 1, 0]
