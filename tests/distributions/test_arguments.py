# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest
import torch

from monai_stochseg.data import CaseError
from monai_stochseg.distributions.arguments import check_arguments, check_option, naming


@check_arguments
def function(
    number: float = 1.0,
    count: int = 1,
    flag: bool = True,
    sizes: Sequence[int] = (1,),
    maps: torch.Tensor | None = None,
    table: Mapping[int, str] | None = None,
    solve: Callable | str = "fast",
) -> int:
    return count


@pytest.mark.parametrize(
    "right",
    [
        {"number": 1},
        {"number": np.float32(0.5), "count": np.int64(3)},
        {"sizes": [1, 2]},
        {"sizes": range(3)},
        {"sizes": np.array([1, 2])},
        {"maps": torch.zeros(1), "table": {}, "solve": print},
        {"maps": None, "flag": np.bool_(True)},
    ],
)
def test_what_fits_the_annotation_is_taken(right: dict) -> None:
    assert function(**right) == right.get("count", 1)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"number": "1"}, "number must be a finite number, got '1'"),
        ({"number": True}, "number must be a finite number, got True"),
        ({"count": 1.0}, "count must be an integer, got 1.0"),
        ({"count": True}, "count must be an integer, got True"),
        ({"flag": 1}, "flag must be True or False, got 1"),
        ({"sizes": "12"}, "sizes must be a sequence, each an integer, got '12'"),
        ({"sizes": [1, None]}, "sizes must be a sequence, each an integer"),
        ({"maps": [0]}, "maps must be a tensor of real numbers or None, got"),
        (
            {"maps": torch.zeros(1, dtype=torch.complex64)},
            r"maps must .* got a Tensor of shape \(1,\) and type torch.com",
        ),
        ({"table": [1]}, "table must be a Mapping or None"),
        ({"solve": 1}, "solve must be callable or text, got 1"),
    ],
)
def test_another_type_is_refused(wrong: dict, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        function(**wrong)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_is_finite(value: float) -> None:
    with pytest.raises(ValueError, match=f"number must be a finite number, got {value}"):
        function(value)


def test_the_signature_stays() -> None:
    assert list(inspect.signature(function).parameters)[:2] == ["number", "count"]


def test_an_option_that_does_not_exist_is_named() -> None:
    with pytest.raises(ValueError, match=r"solver must be one of \('greedy', 'exact'\), got 'greedi'"):
        check_option("solver", "greedi", ("greedy", "exact"))


def test_the_keys_of_a_case_stand_before_the_error() -> None:
    with pytest.raises(CaseError, match="'label' with 'weights' of the data: too small"), naming("label", "weights"):
        raise CaseError("too small")
