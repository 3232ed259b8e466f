# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
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
