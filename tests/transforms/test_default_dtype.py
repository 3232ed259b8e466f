# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch

from monai_stochseg.transforms import STAPLE, SVLS, LabelSmoothing, MajorityVote

LABEL = torch.randint(3, (2, 8, 8), generator=torch.Generator().manual_seed(0))


@pytest.fixture
def double() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("make", [STAPLE, SVLS, LabelSmoothing, MajorityVote])
@pytest.mark.parametrize("weights", [None, torch.tensor([1.0, 0.5])])
def test_the_default_dtype_changes_nothing(
    make: Callable, weights: torch.Tensor | None, request: pytest.FixtureRequest
) -> None:
    expected = make(3)(LABEL, weights)
    request.getfixturevalue("double")
    torch.testing.assert_close(make(3)(LABEL, weights), expected)
