# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
import torch

from monai_stochseg.data.case import CaseError, check_geometry, unreadable

SHEAR = np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])


TURNED = np.array([[0, 0, -5.0, 1], [0, 5, 0, 2], [-5, 0, 0, 3], [0, 0, 0, 1]])


@pytest.mark.parametrize("affine", [np.eye(4), torch.eye(3), np.diag([1e-3, 2e-3, -1e-3, 1]), TURNED])
def test_grids_pass(affine) -> None:
    """Of 2 or 3 axes, of micrometres, and of turned axes."""
    check_geometry("p", {"a": ((2, 2, 2), affine), "b": ((2, 2, 2), affine)})


@pytest.mark.parametrize(
    "affine", [np.zeros((4, 4)), np.diag([1, 1, 0, 1.0]), np.eye(4) * np.nan, np.diag([1, np.inf, 1, 1]), SHEAR]
)
@pytest.mark.parametrize("bad", ["a", "b"])
def test_refuses_an_affine_that_is_no_grid(affine, bad) -> None:
    """Also where the files agree on it, or the first one is right."""
    grids = {name: ((2, 2, 2), affine if bad in ("a", name) else np.eye(4)) for name in "ab"}
    with pytest.raises(CaseError, match=rf"^patient p: {bad} has affine .*which is no voxel grid; write spacing"):
        check_geometry("p", grids)


def test_one_line_of_a_long_message() -> None:
    error = unreadable("p", "a.mha", RuntimeError("line one\nline two " + "x " * 500))
    assert "\n" not in str(error)
    assert len(str(error)) < 300
    assert str(error).startswith("patient p: a.mha cannot be read (RuntimeError: line one line two x")
    assert "no reason given" in str(unreadable("p", "a.nii", EOFError()))
